#include "cli/latents_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "io/safetensors.h"

namespace mochi::cli {
namespace {

constexpr const char* kTensorName = "latents";
constexpr std::string_view kCachePrefix = "cache.";

// Returns how many there are.
std::size_t read_caches(const SafetensorsFile& file, std::vector<CachedTensor>& caches) {
  for (const auto& [name, entry] : file.entries()) {
    if (!name.starts_with(kCachePrefix)) continue;
    caches.push_back({name.substr(kCachePrefix.size()),
                      entry.dtype_name,
                      entry.sizes,
                      {entry.bytes.begin(), entry.bytes.end()}});
  }
  return caches.size();
}

}  // namespace

Latents read_latents(const std::filesystem::path& path, std::vector<CachedTensor>* caches) {
  const SafetensorsFile file(path);
  const auto found = file.entries().find(kTensorName);
  const std::size_t num_caches = caches == nullptr ? 0 : read_caches(file, *caches);
  if (found == file.entries().end() || file.entries().size() != 1 + num_caches) {
    fail("'{}': wanted one tensor '{}', found {} tensors{}", path.string(), kTensorName,
         file.entries().size(),
         file.entries().empty() ? "" : fmt::format(" ('{}', ...)", file.entries().begin()->first));
  }
  const SafetensorsEntry& entry = found->second;
  const std::vector<std::int64_t>& sizes = entry.sizes;
  const bool fits = entry.dtype_name == dtype_name(DType::kF32) && sizes.size() == 5 &&
                    sizes[0] == 1 && std::ranges::all_of(sizes, [](auto size) { return size > 0; });
  if (!fits) {
    fail("'{}': tensor '{}': wanted F32 [1, channels, T, H, W], found {} [{}]", path.string(),
         kTensorName, entry.dtype_name, fmt::join(sizes, ", "));
  }
  Latents latents{.values = std::vector<float>(entry.bytes.size() / sizeof(float)),
                  .channels = sizes[1],
                  .num_frames = sizes[2],
                  .height = sizes[3],
                  .width = sizes[4]};
  std::memcpy(latents.values.data(), entry.bytes.data(), entry.bytes.size());
  if (!std::ranges::all_of(latents.values, [](float value) { return std::isfinite(value); })) {
    fail("'{}': tensor '{}' has values that are not finite", path.string(), kTensorName);
  }
  return latents;
}

void write_latents(const std::filesystem::path& path, const Latents& latents,
                   const std::map<std::string, std::string>& metadata,
                   const std::vector<CachedTensor>& caches) {
  const Shape shape{1, latents.channels, latents.num_frames, latents.height, latents.width};
  std::vector<NamedTensor> tensors{
      {kTensorName, DType::kF32, shape, std::as_bytes(std::span(latents.values))}};
  for (const CachedTensor& cache : caches) {
    const std::optional<DType> dtype = parse_dtype(cache.dtype);
    if (!dtype) fail("cached tensor '{}' has the unknown dtype {}", cache.name, cache.dtype);
    tensors.push_back({std::string(kCachePrefix) + cache.name, *dtype,
                       Shape(std::span(cache.shape)), cache.bytes});
  }
  write_safetensors(path, tensors, metadata);
}

}  // namespace mochi::cli
