// Properties of a JPEG file that stand outside its pixels.
#pragma once

#include <cstddef>
#include <span>

namespace mochi {

bool is_jpeg(std::span<const std::byte> bytes);

// The Exif orientation, 1 to 8; 1 (upright) if there is none. Cameras held upright write 6 or 8.
int jpeg_orientation(std::span<const std::byte> bytes);

// Returns true if the marker that ends an image follows the pixels. Decoders fill the missing part
// of a file that was cut off with grey.
bool is_complete_jpeg(std::span<const std::byte> bytes);

}  // namespace mochi
