#include "io/gguf_parts.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "base/temp_folder.h"
#include "io/same_tensors.h"
#include "support/gguf_bytes.h"

namespace mochi {
namespace {

namespace fs = std::filesystem;

constexpr std::uint32_t kPartF32 = 0;
constexpr std::uint32_t kPartU16 = 2;
constexpr std::uint32_t kPartI32 = 5;

// A part with one tensor of two elements.
std::string make_part(std::string_view tensor, std::uint16_t number, std::uint16_t count = 2,
                      std::int32_t num_tensors = 2) {
  return make_gguf({.values = {gguf_value("split.no", kPartU16, bytes_of(number)),
                               gguf_value("split.count", kPartU16, bytes_of(count)),
                               gguf_value("split.tensors.count", kPartI32, bytes_of(num_tensors))},
                    .tensors = {gguf_tensor(tensor, {2}, kPartF32, 0)},
                    .num_data_bytes = 8});
}

class SplitGgufFile : public testing::Test {
 protected:
  std::string error() const {
    return message_of<Error>([&] { open_gguf(folder / "a-00002-of-00002.gguf"); });
  }

  TempFolder folder;
  fs::path first = folder.write("a-00001-of-00002.gguf", make_part("x", 0));
  fs::path second = folder.write("a-00002-of-00002.gguf", make_part("y", 1));
};

TEST(SplitGguf, HoldsTheTensorsOfAllPartsThatGgufWrote) {
  const fs::path goldens = fs::path(MOCHI_GOLDEN_DIR) / "gguf";
  const auto whole = open_gguf(goldens / "dit_mixed.gguf");
  for (const char* part : {"dit_split-00001-of-00003.gguf", "dit_split-00003-of-00003.gguf"}) {
    const auto split = open_gguf(goldens / part);
    EXPECT_EQ(split->files().size(), 3U);
    expect_contains(split->description(), "dit_split-00001-of-00003.gguf' and 2 more files");
    expect_same_tensors(*split, *whole);
    for (const std::string& name : whole->names()) {
      EXPECT_EQ(split->entry(name).dtype_name, whole->entry(name).dtype_name);
      EXPECT_EQ(split->file_of(name).parent_path(), goldens);
    }
  }
}

TEST_F(SplitGgufFile, AreOneSource) {
  const auto source = open_gguf(second);
  EXPECT_EQ(source->names(), (std::vector<std::string>{"x", "y"}));
  EXPECT_EQ(source->files(), (std::vector<fs::path>{first, second}));
  EXPECT_EQ(source->file_of("x"), first);
  EXPECT_EQ(source->unread().size(), 2U);
  source->stored_rows("y");
  EXPECT_EQ(source->unread(), std::vector<std::string>{"x"});
  EXPECT_EQ(source->metadata().at("split.no"), "0");
  expect_contains(message_of<Error>([&] { source->info("z"); }), "no tensor 'z'");
}

TEST_F(SplitGgufFile, HaveTheShapesThatTheFirstOneStates) {
  folder.write(
      "a-00001-of-00002.gguf",
      make_gguf({.values = {gguf_value("split.no", kPartU16, bytes_of<std::uint16_t>(0)),
                            gguf_value("split.count", kPartU16, bytes_of<std::uint16_t>(2)),
                            gguf_value("split.tensors.count", kPartI32, bytes_of(1)),
                            gguf_value("comfy.gguf.orig_shape.y", 9,
                                       bytes_of(kPartI32) + bytes_of<std::uint64_t>(2) +
                                           bytes_of(1) + bytes_of(2))}}));
  folder.write("a-00002-of-00002.gguf", make_part("y", 1, 2, 1));
  EXPECT_EQ(open_gguf(second)->info("y").shape, (Shape{1, 2}));
}

TEST_F(SplitGgufFile, AMissingOneIsNamed) {
  fs::remove(first);
  expect_contains(error(),
                  "a-00002-of-00002.gguf' is part 2 of a GGUF file that was split into 2, "
                  "and part 1 is missing: '");
  expect_contains(error(), "a-00001-of-00002.gguf'");
}

TEST_F(SplitGgufFile, AForeignOneIsNamed) {
  const auto expect_foreign = [&](const std::string& content, const std::string& found) {
    folder.write("a-00001-of-00002.gguf", content);
    expect_contains(error(),
                    "a-00001-of-00002.gguf: wanted part 1 of 2 with 2 tensors, to which '");
    expect_contains(error(), "a-00002-of-00002.gguf' belongs, found " + found);
  };
  expect_foreign(make_part("x", 0, 2, 7), "part 1 of 2 with 7 tensors");
  expect_foreign(make_part("x", 1), "part 2 of 2 with 2 tensors");
  expect_foreign(make_gguf({}), "a file that was not split");
}

TEST_F(SplitGgufFile, AnotherNameIsRefusedWithTheProgramThatMerges) {
  const std::string message =
      message_of<Error>([&] { open_gguf(folder.write("b.gguf", make_part("x", 0))); });
  expect_contains(message,
                  "b.gguf' is part 1 of a GGUF file that was split into 2: wanted a name "
                  "that ends in '-00001-of-00002.gguf'; `llama-gguf-split --merge`");
}

TEST_F(SplitGgufFile, TensorsAreCounted) {
  folder.write("a-00001-of-00002.gguf", make_part("x", 0, 2, 3));
  folder.write("a-00002-of-00002.gguf", make_part("y", 1, 2, 3));
  expect_contains(error(), "wanted 3 tensors (split.tensors.count), found 2");
}

TEST_F(SplitGgufFile, ATensorInTwoOfThemIsRefused) {
  folder.write("a-00002-of-00002.gguf", make_part("x", 1));
  expect_contains(error(), "tensor 'x' is in both '");
}

TEST_F(SplitGgufFile, ADamagedOneIsNamed) {
  folder.write("a-00001-of-00002.gguf", "GGUF");
  expect_contains(error(), "a-00001-of-00002.gguf");
}

TEST_F(SplitGgufFile, CountsAreNumbers) {
  const auto path = folder.write(
      "a.gguf",
      make_gguf({.values = {gguf_value("split.count", kPartU16, bytes_of<std::uint16_t>(2)),
                            gguf_value("split.no", 8, gguf_string("one"))}}));
  expect_contains(message_of<Error>([&] { open_gguf(path); }),
                  "split.no: wanted a count, found one");
}

TEST(SplitGguf, MergedFilesAreWhole) {
  const TempFolder folder;
  const auto path = folder.write("a.gguf", make_part("x", 0, 0, 1));
  EXPECT_EQ(open_gguf(path)->names(), std::vector<std::string>{"x"});
}

}  // namespace
}  // namespace mochi
