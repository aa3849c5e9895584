#include "job/latents_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "io/safetensors.h"
#include "job/checksum.h"

namespace mochi::job {
namespace {

namespace fs = std::filesystem;
using Metadata = std::map<std::string, std::string>;

constexpr const char* kTensorName = "latents";
constexpr std::string_view kCachePrefix = "cache.";
constexpr const char* kChecksumKey = "checksum";
constexpr const char* kRecipeKey = "recipe";

struct TensorBytes {
  std::string_view dtype;
  std::vector<std::int64_t> sizes;
  std::span<const std::byte> bytes;
};

std::string compute_checksum(const std::map<std::string, TensorBytes>& tensors,
                             const Metadata& metadata) {
  Checksum checksum;
  for (const auto& [name, tensor] : tensors) {
    checksum.add(name);
    checksum.add(tensor.dtype);
    for (const std::int64_t size : tensor.sizes) checksum.add(static_cast<std::uint64_t>(size));
    checksum.add(tensor.bytes);
  }
  for (const auto& [key, value] : metadata) {
    if (key == kChecksumKey) continue;
    checksum.add(key);
    checksum.add(value);
  }
  return checksum.text();
}

bool has_right_checksum(const SafetensorsFile& file) {
  const auto wanted = file.metadata().find(kChecksumKey);
  if (wanted == file.metadata().end()) return false;
  std::map<std::string, TensorBytes> tensors;
  for (const auto& [name, entry] : file.entries()) {
    tensors[name] = {entry.dtype_name, entry.sizes, entry.bytes};
  }
  const std::string found = compute_checksum(tensors, file.metadata());
  if (found == wanted->second) return true;
  fail("'{}' is damaged: wanted checksum {}, found {}", file.path().string(), wanted->second,
       found);
}

std::vector<CachedTensor> read_caches(const SafetensorsFile& file) {
  std::vector<CachedTensor> caches;
  for (const auto& [name, entry] : file.entries()) {
    if (!name.starts_with(kCachePrefix)) continue;
    caches.push_back({name.substr(kCachePrefix.size()),
                      entry.dtype_name,
                      entry.sizes,
                      {entry.bytes.begin(), entry.bytes.end()}});
  }
  return caches;
}

[[noreturn]] void fail_tensors(const SafetensorsFile& file) {
  fail("'{}': wanted one tensor '{}', found {} tensors{}", file.path().string(), kTensorName,
       file.entries().size(),
       file.entries().empty() ? "" : fmt::format(" ('{}', ...)", file.entries().begin()->first));
}

Latents read_tensor(const SafetensorsFile& file) {
  const StoredEntry& entry = file.entries().at(kTensorName);
  const std::vector<std::int64_t>& sizes = entry.sizes;
  const bool fits = entry.dtype_name == dtype_name(DType::kF32) && sizes.size() == 5 &&
                    sizes[0] == 1 && std::ranges::all_of(sizes, [](auto size) { return size > 0; });
  const std::string name = file.path().string();
  if (!fits) {
    fail("'{}': tensor '{}': wanted F32 [1, channels, T, H, W], found {} [{}]", name, kTensorName,
         entry.dtype_name, fmt::join(sizes, ", "));
  }
  Latents latents{.values = std::vector<float>(entry.bytes.size() / sizeof(float)),
                  .channels = sizes[1],
                  .num_frames = sizes[2],
                  .height = sizes[3],
                  .width = sizes[4]};
  std::memcpy(latents.values.data(), entry.bytes.data(), entry.bytes.size());
  if (!std::ranges::all_of(latents.values, [](float value) { return std::isfinite(value); })) {
    fail("'{}': tensor '{}' has values that are not finite", name, kTensorName);
  }
  return latents;
}

}  // namespace

std::optional<Json> LatentsFile::recipe(const fs::path& path) const {
  const auto found = metadata.find(kRecipeKey);
  if (found == metadata.end()) return std::nullopt;
  return parse_json(found->second, path.string());
}

LatentsFile read_latents_file(const fs::path& path) {
  const SafetensorsFile file(path);
  LatentsFile read;
  read.caches = read_caches(file);
  if (!file.entries().contains(kTensorName) || file.entries().size() != 1 + read.caches.size()) {
    fail_tensors(file);
  }
  read.has_checksum = has_right_checksum(file);
  read.latents = read_tensor(file);
  read.metadata = file.metadata();
  return read;
}

Latents read_latents(const fs::path& path) {
  LatentsFile file = read_latents_file(path);
  if (!file.caches.empty()) fail_tensors(SafetensorsFile(path));
  return std::move(file.latents);
}

void write_latents_file(const fs::path& path, const Latents& latents, Metadata metadata,
                        const std::vector<CachedTensor>& caches, const StopFn& should_stop) {
  const Shape shape{1, latents.channels, latents.num_frames, latents.height, latents.width};
  std::vector<NamedTensor> tensors{
      {kTensorName, DType::kF32, shape, std::as_bytes(std::span(latents.values))}};
  std::map<std::string, TensorBytes> content{
      {kTensorName,
       {dtype_name(DType::kF32),
        {1, latents.channels, latents.num_frames, latents.height, latents.width},
        std::as_bytes(std::span(latents.values))}}};
  for (const CachedTensor& cache : caches) {
    const std::optional<DType> dtype = parse_dtype(cache.dtype);
    if (!dtype) fail("cached tensor '{}' has the unknown dtype {}", cache.name, cache.dtype);
    const std::string name = std::string(kCachePrefix) + cache.name;
    tensors.push_back({name, *dtype, Shape(std::span(cache.shape)), cache.bytes});
    content[name] = {cache.dtype, cache.shape, cache.bytes};
  }
  metadata[kChecksumKey] = compute_checksum(content, metadata);
  write_safetensors(path, tensors, metadata, should_stop);
}

void write_latents(const fs::path& path, const Latents& latents,
                   const nlohmann::ordered_json& recipe, const StopFn& should_stop) {
  write_latents_file(path, latents, {{kRecipeKey, recipe.dump()}}, {}, should_stop);
}

}  // namespace mochi::job
