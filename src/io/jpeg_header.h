// What a JPEG file says beside its pixels.
#pragma once

#include <cstddef>
#include <span>

namespace mochi {

bool is_jpeg(std::span<const std::byte> bytes);

// The Exif orientation, 1 to 8; 1 (upright) if there is none. Cameras held upright write 6 or 8.
int jpeg_orientation(std::span<const std::byte> bytes);

// Whether the marker that ends an image follows the pixels; decoders fill the rest of a file that
// was cut off with grey.
bool is_complete_jpeg(std::span<const std::byte> bytes);

}  // namespace mochi
