#include "pipeline/model_config.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "base/error.h"
#include "base/mapped_file.h"
#include "base/temp_folder.h"
#include "pipeline/inspect.h"
#include "pipeline/tiny_model.h"

namespace mochi {
namespace {

namespace fs = std::filesystem;

std::string parse_error(std::string_view content) {
  return message_of<Error>([&] { parse_model_config(content, "a/config.json"); });
}

TEST(ModelConfigText, IsReadLikeAFile) {
  const ModelConfig config = parse_model_config(kTinyConfig, "config.json");
  EXPECT_EQ(config.dit.hidden_size_x, 32);
  EXPECT_EQ(config.text_encoder.vocab_size, 320);
  EXPECT_EQ(config.vae.norm_groups, 4);
  EXPECT_EQ(config.generation.fps, 24);
  EXPECT_EQ(config.trained_on.width.least, 0);
}

TEST(ModelConfigText, ErrorsAreThoseOfTheFile) {
  const TempFolder folder;
  for (const char* content : {"", "GGUF", "[1", "[1]", "{}", R"({"model_type": "t5"})",
                              R"({"model_type": "mochi", "generation": {"fps": 0}})",
                              R"({"model_type": "mochi", "text_encoder": {"hidden_size": 8}})"}) {
    const fs::path path = folder.write("config.json", content);
    const std::string of_file = message_of<Error>([&] { read_model_config(path); });
    expect_contains(of_file, path.string());
    EXPECT_EQ(message_of<Error>([&] { parse_model_config(content, path); }), of_file);
  }
  expect_contains(parse_error(R"({"model_type": "mochi", "generation": {"fps": 0}})"),
                  "a/config.json: generation.fps: wanted 1 to 1000, found 0");
}

TEST(ModelConfigText, OursIsToldFromOtherPrograms) {
  EXPECT_TRUE(is_model_config(R"({"model_type": "mochi"})", "config.json"));
  EXPECT_TRUE(is_model_config(R"({"dit": {}})", "config.json"));
  EXPECT_TRUE(is_model_config("[]", "config.json"));
  EXPECT_FALSE(is_model_config(R"({"model_type": "t5", "dit": {}})", "config.json"));
  EXPECT_FALSE(is_model_config("{}", "config.json"));
}

TEST(InspectCheckpoint, AFileInMemoryIsReportedLikeOneOnDisk) {
  const MappedFile file(fs::path(MOCHI_GOLDEN_DIR) / "formats/decoder.safetensors");
  const auto checkpoint = Checkpoint::from_bytes(file.bytes(), "decoder.safetensors");
  const InspectReport report = inspect_weights(checkpoint, std::nullopt);
  const InspectReport on_disk = inspect_model(file.path());
  ASSERT_EQ(report.components.size(), 1U);
  ASSERT_EQ(on_disk.components.size(), 1U);
  EXPECT_EQ(report.components[0].files, std::vector<std::string>{"decoder.safetensors"});
  EXPECT_EQ(report.components[0].num_parameters, on_disk.components[0].num_parameters);
  EXPECT_EQ(report.components[0].wrong.size(), on_disk.components[0].wrong.size());
  EXPECT_EQ(report.tensors.size(), on_disk.tensors.size());
}

}  // namespace
}  // namespace mochi
