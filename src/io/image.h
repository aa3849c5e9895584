// PNG files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace mochi {

// [height, width, 3] RGB bytes.
struct Image {
  int width = 0;
  int height = 0;
  std::vector<std::uint8_t> rgb;
};

// A PNG file's content. `rgb` is [height, width, 3].
std::string encode_png(int width, int height, std::span<const std::uint8_t> rgb);
// The file appears only when it is complete.
void write_png(const std::filesystem::path& path, int width, int height,
               std::span<const std::uint8_t> rgb);

// Any PNG, as RGB: grey is spread, transparency dropped, 16 bits cut to 8.
Image read_png(const std::filesystem::path& path);

}  // namespace mochi
