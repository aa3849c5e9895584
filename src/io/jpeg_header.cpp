#include "io/jpeg_header.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>

namespace mochi {
namespace {

constexpr std::uint8_t kMarker = 0xFF;
constexpr std::uint8_t kStartOfImage = 0xD8;
constexpr std::uint8_t kEndOfImage = 0xD9;
constexpr std::uint8_t kStartOfScan = 0xDA;
constexpr std::uint8_t kExif = 0xE1;

std::uint8_t byte_at(std::span<const std::byte> bytes, std::size_t idx) {
  return idx < bytes.size() ? static_cast<std::uint8_t>(bytes[idx]) : 0;
}

// Returns an integer of `size` bytes; bytes after the end count as zero.
std::uint32_t read_int(std::span<const std::byte> bytes, std::size_t idx, std::size_t size,
                       bool is_little_endian) {
  constexpr unsigned kByteBits = 8;
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < size; ++i) {
    value = value << kByteBits | byte_at(bytes, idx + (is_little_endian ? size - 1 - i : i));
  }
  return value;
}

// The orientation in the body of an Exif segment, a TIFF file; 0 if it has none.
int exif_orientation(std::span<const std::byte> tiff) {
  constexpr std::size_t kEntryBytes = 12;
  constexpr std::uint32_t kOrientationTag = 0x0112;
  const bool is_little_endian = byte_at(tiff, 0) == 'I';
  const std::size_t directory = read_int(tiff, 4, 4, is_little_endian);
  const std::size_t num_entries = read_int(tiff, directory, 2, is_little_endian);
  for (std::size_t i = 0; i < num_entries; ++i) {
    const std::size_t entry = directory + 2 + i * kEntryBytes;
    if (entry + kEntryBytes > tiff.size()) break;
    if (read_int(tiff, entry, 2, is_little_endian) == kOrientationTag) {
      return static_cast<int>(read_int(tiff, entry + 8, 2, is_little_endian));
    }
  }
  return 0;
}

// Calls fn(marker, body) for each segment before the pixels; returns where these begin.
template <typename Fn>
std::size_t visit_segments(std::span<const std::byte> bytes, const Fn& fn) {
  std::size_t at = 2;
  while (at + 4 <= bytes.size() && byte_at(bytes, at) == kMarker) {
    const std::uint8_t marker = byte_at(bytes, at + 1);
    const std::size_t size = read_int(bytes, at + 2, 2, false);
    if (marker == kStartOfScan || size < 2 || at + 2 + size > bytes.size()) break;
    fn(marker, bytes.subspan(at + 4, size - 2));
    at += 2 + size;
  }
  return std::min(at, bytes.size());
}

}  // namespace

bool is_jpeg(std::span<const std::byte> bytes) {
  return byte_at(bytes, 0) == kMarker && byte_at(bytes, 1) == kStartOfImage &&
         byte_at(bytes, 2) == kMarker;
}

int jpeg_orientation(std::span<const std::byte> bytes) {
  constexpr int kUpright = 1;
  constexpr int kLast = 8;
  constexpr std::string_view kHeader("Exif\0\0", 6);
  int orientation = kUpright;
  visit_segments(bytes, [&](std::uint8_t marker, std::span<const std::byte> body) {
    if (marker != kExif || body.size() < kHeader.size()) return;
    const std::string_view head(reinterpret_cast<const char*>(body.data()), kHeader.size());
    if (head == kHeader) orientation = exif_orientation(body.subspan(kHeader.size()));
  });
  return orientation >= kUpright && orientation <= kLast ? orientation : kUpright;
}

bool is_complete_jpeg(std::span<const std::byte> bytes) {
  const std::size_t pixels = visit_segments(bytes, [](std::uint8_t, std::span<const std::byte>) {});
  constexpr std::array kEnd{std::byte{kMarker}, std::byte{kEndOfImage}};
  return !std::ranges::search(bytes.subspan(pixels), kEnd).empty();
}

}  // namespace mochi
