#include "io/weights_stream.h"

#include <gtest/gtest.h>

#include <array>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/temp_folder.h"
#include "io/stored_source.h"

namespace mochi {
namespace {

const std::vector<PlannedTensor> kPlan{
    {"bytes", "BF16", {3}, 6}, {"matrix", "F32", {2, 2}, 16}, {"empty", "F32", {0, 4}, 0}};

// Fills each tensor with its number of dimensions, in two parts.
void produce_tensor(const PlannedTensor& tensor, const WriteBytesFn& write) {
  const std::vector<std::byte> bytes(tensor.num_bytes, std::byte(tensor.sizes.size()));
  write(std::span(bytes).first(bytes.size() / 2));
  write(std::span(bytes).subspan(bytes.size() / 2));
}

void expect_planned(const std::filesystem::path& path) {
  const auto source = open_weights(path);
  EXPECT_EQ(source->names().size(), kPlan.size());
  for (const PlannedTensor& tensor : kPlan) {
    const StoredEntry& entry = source->entry(tensor.name);
    EXPECT_EQ(entry.dtype_name, tensor.type);
    EXPECT_EQ(entry.sizes, tensor.sizes);
    ASSERT_EQ(entry.bytes.size(), tensor.num_bytes);
    for (const std::byte byte : entry.bytes) EXPECT_EQ(byte, std::byte(tensor.sizes.size()));
  }
}

TEST(WeightsStream, WritesSafetensors) {
  const TempFolder folder;
  stream_safetensors(folder / "x.safetensors", kPlan, {{"format", "pt"}}, produce_tensor);
  expect_planned(folder / "x.safetensors");
  EXPECT_EQ(open_weights(folder / "x.safetensors")->metadata().at("format"), "pt");
}

TEST(WeightsStream, WritesGguf) {
  const TempFolder folder;
  stream_gguf(folder / "x.gguf", kPlan, {{{"general.architecture", "mochi"}}, {{"number", 7}}},
              produce_tensor);
  expect_planned(folder / "x.gguf");
  EXPECT_EQ(
      open_weights(folder / "x.gguf")->metadata(),
      (std::map<std::string, std::string>{{"general.architecture", "mochi"}, {"number", "7"}}));
}

TEST(WeightsStream, LeavesNothingAfterAnError) {
  const TempFolder folder;
  const std::array<std::byte, 100> bytes{};
  const auto write_count = [&](std::size_t count) {
    return [&bytes, count](const PlannedTensor& /*tensor*/, const WriteBytesFn& write) {
      write(std::span(bytes).first(count));
    };
  };
  const std::vector<PlannedTensor> plan{{"a", "F32", {2}, 8}};
  for (const std::size_t count : {0U, 7U, 9U}) {
    EXPECT_THROW(stream_gguf(folder / "x.gguf", plan, {}, write_count(count)), Error);
    EXPECT_THROW(stream_safetensors(folder / "x.safetensors", plan, {}, write_count(count)), Error);
  }
  const std::vector<PlannedTensor> unknown{{"a", "Q9_X", {2}, 8}};
  EXPECT_THROW(stream_gguf(folder / "x.gguf", unknown, {}, write_count(8)), Error);
  EXPECT_THROW(stream_safetensors(folder / "x.safetensors", unknown, {}, write_count(8)), Error);
  EXPECT_EQ(folder.num_entries(), 0U);
}

}  // namespace
}  // namespace mochi
