#include "job/latents_file.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/temp_folder.h"
#include "io/safetensors.h"
#include "job/checkpoint_file.h"

namespace mochi::job {
namespace {

namespace fs = std::filesystem;

Latents make_latents() {
  Latents latents{.values = {}, .channels = 2, .num_frames = 1, .height = 2, .width = 3};
  for (int i = 0; i < 12; ++i) latents.values.push_back(static_cast<float>(i) / 7);
  return latents;
}

SamplerState make_state() {
  const std::vector<std::byte> bytes(8, std::byte{1});
  return {.num_steps_done = 5,
          .latents = make_latents(),
          .caches = {{"cond.0.lse", "F32", {2}, bytes}, {"cond.0.plan", "I32", {2}, bytes}}};
}

std::string error_of(const fs::path& path) {
  return message_of<Error>([&] { read_checkpoint(path); });
}

// Writes the tensors and metadata of a file again, changed.
template <typename Change>
void rewrite(const fs::path& from, const fs::path& to, const Change& change) {
  const SafetensorsFile file(from);
  std::map<std::string, StoredEntry> entries(file.entries().begin(), file.entries().end());
  std::map<std::string, std::string> metadata = file.metadata();
  change(entries, metadata);
  std::vector<NamedTensor> tensors;
  for (const auto& [name, entry] : entries) {
    tensors.push_back(
        {name, *parse_dtype(entry.dtype_name), Shape(std::span(entry.sizes)), entry.bytes});
  }
  write_safetensors(to, tensors, metadata);
}

TEST(LatentsFile, IsReadBack) {
  const TempFolder folder;
  const fs::path path = folder / "l.safetensors";
  write_latents(path, make_latents(), {{"video", {{"fps", 24}}}});
  const LatentsFile file = read_latents_file(path);
  EXPECT_EQ(file.latents.values, make_latents().values);
  EXPECT_EQ(file.latents.width, 3);
  EXPECT_TRUE(file.has_checksum);
  EXPECT_EQ(file.recipe(path)->at("video").at("fps"), 24);
}

TEST(LatentsFile, FilesOfOtherProgramsHaveNeitherChecksumNorRecipe) {
  const TempFolder folder;
  const fs::path path = folder / "l.safetensors";
  write_latents(folder / "ours.safetensors", make_latents(), {});
  rewrite(folder / "ours.safetensors", path,
          [](auto& /*entries*/, auto& metadata) { metadata.clear(); });
  const LatentsFile file = read_latents_file(path);
  EXPECT_EQ(file.latents.values, make_latents().values);
  EXPECT_FALSE(file.has_checksum);
  EXPECT_FALSE(file.recipe(path));
}

TEST(LatentsFile, AFlippedBitIsFound) {
  const TempFolder folder;
  const fs::path path = folder / "l.safetensors";
  write_latents(path, make_latents(), {});
  const std::string content = read_text(path);
  for (std::size_t at = content.size() - 48; at < content.size(); ++at) {
    std::string changed = content;
    changed[at] = static_cast<char>(changed[at] ^ 1);
    folder.write("l.safetensors", changed);
    expect_contains(message_of<Error>([&] { read_latents(path); }), "is damaged: wanted checksum");
  }
}

TEST(Checkpoint, IsReadBack) {
  const TempFolder folder;
  const fs::path path = folder / "c.safetensors";
  EXPECT_FALSE(is_checkpoint(path));
  write_checkpoint(path, make_state(), {{"request", {{"seed", 3}}}});
  EXPECT_TRUE(is_checkpoint(path));
  const SamplingCheckpoint checkpoint = read_checkpoint(path);
  EXPECT_EQ(checkpoint.state.num_steps_done, 5);
  EXPECT_EQ(checkpoint.state.latents.values, make_latents().values);
  ASSERT_EQ(checkpoint.state.caches.size(), 2U);
  EXPECT_EQ(checkpoint.state.caches[0].name, "cond.0.lse");
  EXPECT_EQ(checkpoint.state.caches[0].bytes, make_state().caches[0].bytes);
  EXPECT_EQ(checkpoint.recipe.at("request").at("seed"), 3);
  EXPECT_THROW(read_latents(path), Error);  // its caches are no latents
}

TEST(Checkpoint, ChangedContentIsRefused) {
  const TempFolder folder;
  const fs::path good = folder / "c.safetensors";
  const fs::path bad = folder / "bad.safetensors";
  write_checkpoint(good, make_state(), {{"request", {{"seed", 3}}}});
  rewrite(good, bad, [](auto& entries, auto&) { entries.erase("cache.cond.0.lse"); });
  expect_contains(error_of(bad), "is damaged");
  rewrite(good, bad, [](auto& entries, auto&) {
    auto node = entries.extract("cache.cond.0.lse");
    node.key() = "cache.cond.1.lse";
    entries.insert(std::move(node));
  });
  expect_contains(error_of(bad), "is damaged");
  rewrite(good, bad, [](auto&, auto& metadata) { metadata["num_steps_done"] = "399"; });
  expect_contains(error_of(bad), "is damaged");
  rewrite(good, bad, [](auto&, auto& metadata) { metadata["recipe"] = "{}"; });
  expect_contains(error_of(bad), "is damaged");
  const std::vector<std::byte> nan(8, std::byte{0xff});
  rewrite(good, bad, [&nan](auto& entries, auto&) { entries["cache.cond.0.lse"].bytes = nan; });
  expect_contains(error_of(bad), "is damaged");
  rewrite(good, bad, [](auto&, auto& metadata) { metadata.erase("checksum"); });
  expect_contains(error_of(bad), "has no checksum");
  rewrite(good, bad, [](auto&, auto& metadata) { metadata.erase("recipe"); });
  expect_contains(error_of(bad), "is damaged");
}

}  // namespace
}  // namespace mochi::job
