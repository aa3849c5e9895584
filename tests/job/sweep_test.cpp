#include "job/sweep.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/temp_folder.h"

namespace mochi::job {
namespace {

std::string line_error(const std::string& line) {
  return message_of<Error>([&] { parse_sweep_line(line, "s.jsonl:2", {}); });
}

TEST(Sweep, ALineIsLaidOverTheCommandLine) {
  JobOptions base;
  base.request.prompt = "base";
  base.request.num_steps = 8;
  base.engine.device = DeviceKind::kCpu;
  const JobOptions options = parse_sweep_line(
      R"({"prompt": "own", "fps": 7, "out": "v.y4m", "save_latents": "l"})", "s.jsonl:1", base);
  EXPECT_EQ(options.request.prompt, "own");
  EXPECT_EQ(options.request.num_steps, 8);
  EXPECT_EQ(options.request.fps, (FrameRate{7, 1}));
  EXPECT_EQ(options.output, "v.y4m");
  EXPECT_EQ(options.save_latents, "l");
  EXPECT_EQ(options.engine.device, DeviceKind::kCpu);
}

TEST(Sweep, ErrorsNameLineAndKey) {
  expect_contains(line_error(R"({"prompt": "x",})"), "s.jsonl:2: column 16: not valid JSON");
  expect_contains(line_error(R"({"promt": "x"})"), "s.jsonl:2: promt: unknown key, did you mean");
  expect_contains(line_error(R"({"num_steps": 0})"), "s.jsonl:2: num_steps: wanted 1 to 10000");
  expect_contains(line_error(R"({"out": ""})"), "s.jsonl:2: out: wanted a file");
  expect_contains(line_error(R"({"no_sparsity": true, "chipmunk_config": "c"})"),
                  "s.jsonl:2: chipmunk_config: has no effect with no_sparsity");
  expect_contains(line_error("[]"), "s.jsonl:2: wanted an object");
}

TEST(Sweep, AFileIsReadLineByLine) {
  const TempFolder folder;
  const auto path = folder.write("s.jsonl", "{\"seed\": 1}\n \r\n{\"prompt\": \"x\"}");
  const std::vector<SweepVideo> videos = read_sweep_file(path, {});
  ASSERT_EQ(videos.size(), 2U);
  EXPECT_EQ(videos[0].source, path.string() + ":1");
  EXPECT_EQ(videos[1].source, path.string() + ":3");
  EXPECT_EQ(given_fields(videos[1].own), std::vector<std::string>{"prompt"});
  EXPECT_THROW(read_sweep_file(folder.write("e.jsonl", "\n"), {}), Error);
  EXPECT_THROW(read_sweep_file(folder / "none.jsonl", {}), Error);
  const auto archive = folder.write("z.jsonl", "PK\3\4");
  expect_contains(message_of<Error>([&] { read_sweep_file(archive, {}); }),
                  "z.jsonl' is a zip archive, not a file of JSON lines: unpack it first");
}

}  // namespace
}  // namespace mochi::job
