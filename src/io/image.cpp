#include "io/image.h"

#include <stb/stb_image.h>
#include <stb/stb_image_write.h>

#include <limits>
#include <memory>
#include <string>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/mapped_file.h"

namespace mochi {
namespace {

constexpr int kChannels = 3;

void append_bytes(void* context, void* data, int size) {
  static_cast<std::string*>(context)->append(static_cast<const char*>(data),
                                             static_cast<std::size_t>(size));
}

}  // namespace

std::string encode_png(int width, int height, std::span<const std::uint8_t> rgb) {
  if (width < 1 || height < 1 || width > std::numeric_limits<int>::max() / kChannels) {
    fail("cannot encode a PNG of {}x{} pixels", width, height);
  }
  const std::size_t wanted_bytes =
      static_cast<std::size_t>(width) * static_cast<std::size_t>(height) * kChannels;
  if (rgb.size() != wanted_bytes) {
    fail("cannot encode a PNG: wanted {} bytes for {}x{} pixels, found {}", wanted_bytes, width,
         height, rgb.size());
  }
  std::string encoded;
  if (stbi_write_png_to_func(append_bytes, &encoded, width, height, kChannels, rgb.data(),
                             width * kChannels) == 0) {
    fail("cannot encode a PNG of {}x{} pixels", width, height);
  }
  return encoded;
}

void write_png(const std::filesystem::path& path, int width, int height,
               std::span<const std::uint8_t> rgb) {
  write_file_atomically(path, encode_png(width, height, rgb));
}

Image read_png(const std::filesystem::path& path) {
  const MappedFile file(path);
  if (file.bytes().size() > static_cast<std::size_t>(std::numeric_limits<int>::max())) {
    fail("cannot read '{}': too large for an image", path.string());
  }
  Image image;
  int stored_channels = 0;
  const std::unique_ptr<stbi_uc, void (*)(void*)> pixels(
      stbi_load_from_memory(reinterpret_cast<const stbi_uc*>(file.bytes().data()),
                            static_cast<int>(file.bytes().size()), &image.width, &image.height,
                            &stored_channels, kChannels),
      stbi_image_free);
  if (!pixels) fail("cannot read '{}': not a PNG ({})", path.string(), stbi_failure_reason());
  const std::size_t num_bytes =
      static_cast<std::size_t>(image.width) * static_cast<std::size_t>(image.height) * kChannels;
  image.rgb.assign(pixels.get(), pixels.get() + num_bytes);
  return image;
}

}  // namespace mochi
