// PNG and JPEG files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace mochi {

inline constexpr int kRgbChannels = 3;

// [height, width, 3] RGB bytes.
struct Image {
  int width = 0;
  int height = 0;
  std::vector<std::uint8_t> rgb;
};

// A PNG file's content. `rgb` is [height, width, 3].
std::string encode_png(int width, int height, std::span<const std::uint8_t> rgb);
// A JPEG file's content. `rgb` is [height, width, 3]; `quality` is 1 to 100.
std::string encode_jpeg(int width, int height, std::span<const std::uint8_t> rgb, int quality);
// The file appears only when it is complete.
void write_png(const std::filesystem::path& path, int width, int height,
               std::span<const std::uint8_t> rgb);

// Returns true if the ending is .png, .jpg or .jpeg, in any case.
bool has_image_ending(const std::filesystem::path& path);

// A PNG or JPEG file as RGB: grey is spread, transparency is dropped, 16 bits are cut to 8, and a
// photo is turned upright as its Exif orientation says. Throws Error naming the file if it is
// neither, damaged or cut off.
Image read_image(const std::filesystem::path& path);

}  // namespace mochi
