#include "io/image.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/error.h"
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

TEST(Png, UnreadableFilesAreErrorsWithTheName) {
  const TempFolder folder;
  for (const std::string& content : {std::string(), std::string("no image")}) {
    const auto path = folder.write("bad.png", content);
    expect_contains(message_of<Error>([&] { read_image(path); }), "bad.png");
  }
  const std::string whole = encode_png(2, 2, std::vector<std::uint8_t>(12));
  const auto path = folder.write("cut.png", std::string_view(whole).substr(0, whole.size() / 2));
  expect_contains(message_of<Error>([&] { read_image(path); }), "a damaged PNG file");
}

}  // namespace
}  // namespace mochi
