#include "io/stored_source.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/error.h"
#include "base/temp_folder.h"
#include "io/checkpoint.h"

namespace mochi {
namespace {

namespace fs = std::filesystem;

class Prefixed : public testing::Test {
 protected:
  Prefixed() {
    const std::vector<float> values{1, 2};
    std::vector<NamedTensor> tensors;
    for (const char* name : {"vae.x", "vae.y", "vae2.x", "x"}) {
      tensors.push_back({name, DType::kF32, {2}, std::as_bytes(std::span(values))});
    }
    write_safetensors(folder_ / "a.safetensors", tensors, {{"key", "value"}});
    file_ = open_weights(folder_ / "a.safetensors");
    vae_ = std::make_shared<PrefixedSource>(file_, "vae.");
  }

  const TempFolder folder_;
  std::shared_ptr<StoredSource> file_;
  std::shared_ptr<StoredSource> vae_;
};

TEST_F(Prefixed, ShowsOnlyTheTensorsBelow) {
  EXPECT_EQ(vae_->names(), (std::vector<std::string>{"x", "y"}));
  EXPECT_TRUE(vae_->contains("x"));
  EXPECT_FALSE(vae_->contains("vae.x"));
  EXPECT_EQ(vae_->info("x").shape, Shape({2}));
  EXPECT_EQ(vae_->entry("x").dtype_name, "F32");
  EXPECT_EQ(vae_->metadata().at("key"), "value");
  EXPECT_EQ(vae_->file_of("x"), folder_ / "a.safetensors");
  EXPECT_EQ(vae_->files(), (std::vector<fs::path>{folder_ / "a.safetensors"}));
}

TEST_F(Prefixed, KnowsWhichTensorsWereRead) {
  std::vector<float> values(2);
  vae_->read_f32("y", values);
  EXPECT_EQ(values, (std::vector<float>{1, 2}));
  EXPECT_EQ(vae_->unread(), (std::vector<std::string>{"x"}));
  EXPECT_EQ(file_->unread(), (std::vector<std::string>{"vae.x", "vae2.x", "x"}));
}

TEST_F(Prefixed, PrefixesAddUp) {
  EXPECT_EQ(file_->prefix(), "");
  EXPECT_EQ(PrefixedSource(std::make_shared<PrefixedSource>(file_, "v"), "ae.").prefix(), "vae.");
}

TEST_F(Prefixed, ErrorsNameFileAndPrefix) {
  const std::string message = message_of<Error>([&] { vae_->info("z"); });
  expect_contains(message, "no tensor 'vae.z' in '");
}

TEST_F(Prefixed, OnlyFilesOfItsTensorsCount) {
  const std::vector<float> values{1, 2};
  const std::vector<NamedTensor> other{
      {"other", DType::kF32, {2}, std::as_bytes(std::span(values))}};
  write_safetensors(folder_ / "b.safetensors", other);
  const std::vector<fs::path> both{folder_ / "a.safetensors", folder_ / "b.safetensors"};
  const PrefixedSource vae(Checkpoint::open_files(both), "vae.");
  EXPECT_EQ(vae.files(), (std::vector<fs::path>{both[0]}));
}

}  // namespace
}  // namespace mochi
