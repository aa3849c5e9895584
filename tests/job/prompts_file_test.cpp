#include "job/prompts_file.h"

#include <gtest/gtest.h>

#include <fstream>

#include "base/error.h"
#include "base/temp_folder.h"

namespace mochi::job {
namespace {

TEST(PromptsFile, IsReadLineByLine) {
  const TempFolder folder;
  const std::filesystem::path path = folder / "p.txt";
  std::ofstream(path) << "\n# a comment\r\n\t a red ball \r\n  # another\na #2 cube";
  const std::vector<LinePrompt> prompts = read_prompts(path);
  ASSERT_EQ(prompts.size(), 2U);
  EXPECT_EQ(prompts[0].text, "a red ball");
  EXPECT_EQ(prompts[0].source, path.string() + ":3");
  EXPECT_EQ(prompts[1].text, "a #2 cube");
  EXPECT_EQ(prompts[1].source, path.string() + ":5");
}

TEST(PromptsFile, MustHaveAPrompt) {
  const TempFolder folder;
  EXPECT_THROW(read_prompts(folder / "none.txt"), Error);
  std::ofstream(folder / "p.txt") << "# nothing\n\n";
  EXPECT_THROW(read_prompts(folder / "p.txt"), Error);
}

TEST(PromptsFile, IsAText) {
  const TempFolder folder;
  EXPECT_EQ(read_prompts(folder.write("mark.txt",
                                      "\xef\xbb\xbf"
                                      "a red ball"))
                .front()
                .text,
            "a red ball");
  const auto page = folder.write("p.txt", "<!DOCTYPE html>\n<p>Not found");
  expect_contains(message_of<Error>([&] { read_prompts(page); }),
                  "p.txt' is a web page (HTML), not a file of prompts");
}

}  // namespace
}  // namespace mochi::job
