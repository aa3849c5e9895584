#include "io/image.h"

#include <stb/stb_image.h>
#include <stb/stb_image_write.h>

#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/file_kind.h"
#include "base/mapped_file.h"
#include "io/file_name.h"
#include "io/jpeg_header.h"

namespace mochi {
namespace {

void append_bytes(void* context, void* data, int size) {
  static_cast<std::string*>(context)->append(static_cast<const char*>(data),
                                             static_cast<std::size_t>(size));
}

bool is_png(std::span<const std::byte> bytes) {
  constexpr std::string_view kSignature("\x89PNG\r\n\x1a\n");
  return bytes.size() >= kSignature.size() &&
         std::memcmp(bytes.data(), kSignature.data(), kSignature.size()) == 0;
}

void check_image(const MappedFile& file) {
  const std::string name = file.path().string();
  if (file.bytes().empty()) fail("cannot read '{}': the file is empty", name);
  if (file.bytes().size() > static_cast<std::size_t>(std::numeric_limits<int>::max())) {
    fail("cannot read '{}': too large for an image", name);
  }
  if (is_jpeg(file.bytes())) {
    if (!is_complete_jpeg(file.bytes())) fail("cannot read '{}': the JPEG file was cut off", name);
  } else if (!is_png(file.bytes())) {
    fail("cannot read '{}': neither a PNG nor a JPEG file: it is {}", name,
         recognise_content(file.bytes()).name);
  }
}

// Throws Error unless the format can hold such an image and `rgb` is one.
void check_pixels(std::string_view format, int max_side, int width, int height,
                  std::span<const std::uint8_t> rgb) {
  if (width < 1 || height < 1 || width > max_side || height > max_side) {
    fail("cannot encode a {} of {}x{} pixels", format, width, height);
  }
  const std::size_t wanted_bytes =
      static_cast<std::size_t>(width) * static_cast<std::size_t>(height) * kRgbChannels;
  if (rgb.size() != wanted_bytes) {
    fail("cannot encode a {}: wanted {} bytes for {}x{} pixels, found {}", format, wanted_bytes,
         width, height, rgb.size());
  }
}

// The image as a viewer shows it, which honours the orientation of Exif: 2, 4, 5 and 7 are
// mirrored, 5 to 8 turned by a quarter.
Image turn_upright(const Image& stored, int orientation) {
  constexpr int kFirstTransposed = 5;
  const bool is_transposed = orientation >= kFirstTransposed;
  const bool is_x_reversed =
      orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool is_y_reversed =
      orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  Image image{.width = is_transposed ? stored.height : stored.width,
              .height = is_transposed ? stored.width : stored.height,
              .rgb = {}};
  image.rgb.reserve(stored.rgb.size());
  for (int y = 0; y < image.height; ++y) {
    for (int x = 0; x < image.width; ++x) {
      int from_x = is_transposed ? y : x;
      int from_y = is_transposed ? x : y;
      if (is_x_reversed) from_x = stored.width - 1 - from_x;
      if (is_y_reversed) from_y = stored.height - 1 - from_y;
      const auto* const pixel =
          &stored.rgb[(static_cast<std::size_t>(from_y) * stored.width + from_x) * kRgbChannels];
      image.rgb.insert(image.rgb.end(), pixel, pixel + kRgbChannels);
    }
  }
  return image;
}

}  // namespace

std::string encode_png(int width, int height, std::span<const std::uint8_t> rgb) {
  check_pixels("PNG", std::numeric_limits<int>::max() / kRgbChannels, width, height, rgb);
  std::string encoded;
  if (stbi_write_png_to_func(append_bytes, &encoded, width, height, kRgbChannels, rgb.data(),
                             width * kRgbChannels) == 0) {
    fail("cannot encode a PNG of {}x{} pixels", width, height);
  }
  return encoded;
}

std::string encode_jpeg(int width, int height, std::span<const std::uint8_t> rgb, int quality) {
  constexpr int kMaxSide = 65535;
  check_pixels("JPEG", kMaxSide, width, height, rgb);
  std::string encoded;
  if (stbi_write_jpg_to_func(append_bytes, &encoded, width, height, kRgbChannels, rgb.data(),
                             quality) == 0) {
    fail("cannot encode a JPEG of {}x{} pixels", width, height);
  }
  return encoded;
}

void write_png(const std::filesystem::path& path, int width, int height,
               std::span<const std::uint8_t> rgb) {
  write_file_atomically(path, encode_png(width, height, rgb));
}

bool has_image_ending(const std::filesystem::path& path) {
  const std::string ending = lower_extension(path);
  return ending == ".png" || ending == ".jpg" || ending == ".jpeg";
}

Image read_image(const std::filesystem::path& path) {
  const MappedFile file(path);
  check_image(file);
  Image image;
  int stored_channels = 0;
  const std::unique_ptr<stbi_uc, void (*)(void*)> pixels(
      stbi_load_from_memory(reinterpret_cast<const stbi_uc*>(file.bytes().data()),
                            static_cast<int>(file.bytes().size()), &image.width, &image.height,
                            &stored_channels, kRgbChannels),
      stbi_image_free);
  if (!pixels) {
    fail("cannot read '{}': a damaged {} file, or one of a rare kind", path.string(),
         is_png(file.bytes()) ? "PNG" : "JPEG");
  }
  const std::size_t num_bytes =
      static_cast<std::size_t>(image.width) * static_cast<std::size_t>(image.height) * kRgbChannels;
  image.rgb.assign(pixels.get(), pixels.get() + num_bytes);
  const int orientation = is_jpeg(file.bytes()) ? jpeg_orientation(file.bytes()) : 1;
  return orientation == 1 ? std::move(image) : turn_upright(image, orientation);
}

}  // namespace mochi
