#include "io/image.h"

#include <gtest/gtest.h>

#include <string>
#include <tuple>
#include <vector>

#include "base/error.h"
#include "base/subprocess.h"
#include "base/temp_folder.h"

namespace mochi {
namespace {

TEST(Png, RoundTripIsExact) {
  const TempFolder folder;
  std::vector<std::uint8_t> rgb(7 * 5 * 3);
  for (std::size_t i = 0; i < rgb.size(); ++i) rgb[i] = static_cast<std::uint8_t>(i * 37);
  write_png(folder / "a.png", 7, 5, rgb);
  const Image image = read_image(folder / "a.png");
  EXPECT_EQ(image.width, 7);
  EXPECT_EQ(image.height, 5);
  EXPECT_EQ(image.rgb, rgb);
  EXPECT_EQ(folder.num_entries(), 1U);
}

TEST(Png, RefusesWrongSizes) {
  const TempFolder folder;
  const std::vector<std::uint8_t> rgb(12);
  expect_contains(message_of<Error>([&] { write_png(folder / "a.png", 2, 3, rgb); }),
                  "wanted 18 bytes for 2x3 pixels, found 12");
  EXPECT_THROW(write_png(folder / "a.png", 0, 3, {}), Error);
  EXPECT_EQ(folder.num_entries(), 0U);
}

TEST(Jpeg, IsNearToWhatWasWritten) {
  const TempFolder folder;
  std::vector<std::uint8_t> rgb;
  for (int y = 0; y < 9; ++y) {
    for (int x = 0; x < 20; ++x) {
      for (const int value : {40 + 10 * x, 200 - 8 * y, 100}) {
        rgb.push_back(static_cast<std::uint8_t>(value));
      }
    }
  }
  const Image image = read_image(folder.write("a.jpg", encode_jpeg(20, 9, rgb, 95)));
  EXPECT_EQ(image.width, 20);
  EXPECT_EQ(image.height, 9);
  ASSERT_EQ(image.rgb.size(), rgb.size());
  for (std::size_t i = 0; i < rgb.size(); ++i) EXPECT_NEAR(image.rgb[i], rgb[i], 8) << i;
  EXPECT_LT(encode_jpeg(20, 9, rgb, 20).size(), encode_jpeg(20, 9, rgb, 95).size());
}

TEST(Jpeg, RefusesWrongSizes) {
  expect_contains(message_of<Error>([] { encode_jpeg(2, 3, std::vector<std::uint8_t>(12), 90); }),
                  "cannot encode a JPEG: wanted 18 bytes for 2x3 pixels, found 12");
  expect_contains(message_of<Error>([] { encode_jpeg(65536, 1, {}, 90); }),
                  "cannot encode a JPEG of 65536x1 pixels");
}

TEST(Png, UnreadableFilesAreErrorsWithTheName) {
  const TempFolder folder;
  for (const std::string& content : {std::string(), std::string("no image")}) {
    const auto path = folder.write("bad.png", content);
    expect_contains(message_of<Error>([&] { read_image(path); }), "bad.png");
  }
  const std::string whole = encode_png(2, 2, std::vector<std::uint8_t>(12));
  const auto path = folder.write("cut.png", std::string_view(whole).substr(0, whole.size() / 2));
  EXPECT_EQ(message_of<Error>([&] { read_image(path); }),
            "cannot read '" + path.string() + "': a damaged PNG file, or one of a rare kind");
  const auto web = folder.write("web.png", "<!DOCTYPE html><html>");
  expect_contains(message_of<Error>([&] { read_image(web); }), "it is a web page");
}

// A JPEG of ffmpeg's, left half dark and right half bright.
std::string make_jpeg(const TempFolder& folder) {
  std::vector<std::uint8_t> rgb;
  for (int i = 0; i < 32 * 16; ++i) {
    rgb.insert(rgb.end(), 3, static_cast<std::uint8_t>(i % 32 < 16 ? 20 : 220));
  }
  write_png(folder / "source.png", 32, 16, rgb);
  run_program({"ffmpeg", "-v", "error", "-y", "-i", (folder / "source.png").string(), "-q:v", "1",
               (folder / "source.jpg").string()});
  return read_text(folder / "source.jpg");
}

// Puts an Exif segment after the first marker.
std::string with_orientation(const std::string& jpeg, int orientation, bool is_little_endian) {
  using namespace std::string_literals;
  const char value = static_cast<char>(orientation);
  const std::string tiff =
      is_little_endian ? "II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0"s + value + "\0\0\0"s
                       : "MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0"s + value + "\0\0"s;
  const std::string body = "Exif\0\0"s + tiff;
  const std::string size{'\0', static_cast<char>(body.size() + 2)};
  return jpeg.substr(0, 2) + "\xFF\xE1"s + size + body + jpeg.substr(2);
}

TEST(Jpeg, IsTurnedAsItsOrientationSays) {
  const TempFolder folder;
  const std::string jpeg = make_jpeg(folder);
  for (const bool is_little_endian : {true, false}) {
    const auto read = [&](int orientation) {
      return read_image(
          folder.write("a.jpg", with_orientation(jpeg, orientation, is_little_endian)));
    };
    const auto left_top = [](const Image& image) { return image.rgb[0] > 128 ? "bright" : "dark"; };
    for (const auto& [orientation, width, corner] :
         {std::tuple{1, 32, "dark"}, std::tuple{2, 32, "bright"}, std::tuple{3, 32, "bright"},
          std::tuple{4, 32, "dark"}, std::tuple{5, 16, "dark"}, std::tuple{6, 16, "dark"},
          std::tuple{7, 16, "bright"}, std::tuple{8, 16, "bright"}, std::tuple{9, 32, "dark"}}) {
      const Image image = read(orientation);
      EXPECT_EQ(image.width, width) << orientation;
      EXPECT_STREQ(left_top(image), corner) << orientation;
    }
  }
}

TEST(Jpeg, CutOffFilesAreErrors) {
  const TempFolder folder;
  const std::string whole = with_orientation(make_jpeg(folder), 1, true);
  for (std::size_t size = 3; size < whole.size(); size += 50) {
    const auto path = folder.write("cut.jpg", std::string_view(whole).substr(0, size));
    expect_contains(message_of<Error>([&] { read_image(path); }), "cut.jpg");
  }
}

}  // namespace
}  // namespace mochi
