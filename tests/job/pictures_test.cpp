#include "job/pictures.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "base/temp_folder.h"
#include "io/image.h"

namespace mochi::job {
namespace {

using Indices = std::vector<std::int64_t>;

// A picture of one grey.
std::vector<std::uint8_t> plain(FrameSize size, std::uint8_t grey) {
  return std::vector<std::uint8_t>(
      static_cast<std::size_t>(size.width) * static_cast<std::size_t>(size.height) * kRgbChannels,
      grey);
}

// The grey of the pixel, which JPEG's coding may have changed a little.
int grey_at(const Image& image, int x, int y) {
  return image.rgb[(static_cast<std::size_t>(y) * static_cast<std::size_t>(image.width) +
                    static_cast<std::size_t>(x)) *
                   kRgbChannels];
}

TEST(SpacedIndices, IncludeBothEnds) {
  EXPECT_EQ(spaced_indices(1, 16), Indices{0});
  EXPECT_EQ(spaced_indices(3, 16), (Indices{0, 1, 2}));
  EXPECT_EQ(spaced_indices(10, 4), (Indices{0, 3, 6, 9}));
  EXPECT_EQ(spaced_indices(163, 4), (Indices{0, 54, 108, 162}));
  EXPECT_EQ(spaced_indices(7, 1), Indices{0});
}

TEST(ContactSheet, FillsRowsOfFour) {
  ContactSheet sheet({2, 1}, 6);
  EXPECT_EQ(sheet.num_columns(), 4);
  EXPECT_EQ(sheet.size(), (FrameSize{8, 2}));
  for (int i = 0; i < 6; ++i) {
    std::vector<std::uint8_t> cell = plain({2, 1}, static_cast<std::uint8_t>(10 * i + 10));
    cell.back() = static_cast<std::uint8_t>(10 * i + 11);
    sheet.put(i, cell);
  }
  std::vector<std::uint8_t> wanted;
  for (int i = 0; i < 6; ++i) {
    wanted.insert(wanted.end(), 5, static_cast<std::uint8_t>(10 * i + 10));
    wanted.push_back(static_cast<std::uint8_t>(10 * i + 11));
  }
  wanted.resize(2 * 8 * 3);  // two black cells
  EXPECT_TRUE(std::ranges::equal(sheet.rgb(), wanted));
  EXPECT_EQ(ContactSheet({5, 3}, 2).size(), (FrameSize{10, 3}));
}

class PicturesTest : public testing::Test {
 protected:
  // Gives a video whose frames are grey, each a little lighter than the one before.
  void give(VideoSize size) {
    Pictures pictures({.thumbnail = folder_ / "t.jpg", .spritesheet = folder_ / "s.jpg"},
                      [this](std::string_view text) { warnings_.emplace_back(text); });
    for (int i = 0; i < size.num_frames; ++i) {
      EXPECT_EQ(folder_.num_entries(), num_files_before_);
      pictures.add(plain({size.width, size.height}, grey_of(i)), i, size);
    }
  }
  static std::uint8_t grey_of(int frame_idx) { return static_cast<std::uint8_t>(20 + frame_idx); }

  TempFolder folder_;
  std::size_t num_files_before_ = 0;
  std::vector<std::string> warnings_;
};

TEST_F(PicturesTest, AreWrittenWithTheLastFrame) {
  give({.width = 1024, .height = 640, .num_frames = 163});
  EXPECT_TRUE(warnings_.empty());
  const Image thumbnail = read_image(folder_ / "t.jpg");
  EXPECT_EQ(thumbnail.width, 512);
  EXPECT_EQ(thumbnail.height, 320);
  EXPECT_NEAR(grey_at(thumbnail, 100, 100), grey_of(81), 1);

  const Image sheet = read_image(folder_ / "s.jpg");
  EXPECT_EQ(sheet.width, 4 * 256);
  EXPECT_EQ(sheet.height, 4 * 160);
  const Indices shown = spaced_indices(163, 16);
  for (int i = 0; i < 16; ++i) {
    const int frame_idx = static_cast<int>(shown[static_cast<std::size_t>(i)]);
    EXPECT_NEAR(grey_at(sheet, (i % 4) * 256 + 128, (i / 4) * 160 + 80), grey_of(frame_idx), 1);
  }
}

TEST_F(PicturesTest, OfSmallAndShortVideosAreNotEnlarged) {
  give({.width = 64, .height = 48, .num_frames = 1});
  for (const char* const name : {"t.jpg", "s.jpg"}) {
    const Image image = read_image(folder_ / name);
    EXPECT_EQ(image.width, 64);
    EXPECT_EQ(image.height, 48);
  }
}

TEST_F(PicturesTest, OfUprightVideosAreBoundedInHeight) {
  give({.width = 16, .height = 2048, .num_frames = 7});
  EXPECT_EQ(read_image(folder_ / "t.jpg").height, 512);
  EXPECT_EQ(read_image(folder_ / "t.jpg").width, 4);
  EXPECT_EQ(read_image(folder_ / "s.jpg").height, 2 * 512);
}

TEST_F(PicturesTest, FailingAreOneWarning) {
  std::filesystem::create_directory(folder_ / "t.jpg");
  num_files_before_ = 1;
  give({.width = 64, .height = 48, .num_frames = 7});
  ASSERT_EQ(warnings_.size(), 1U);
  expect_contains(warnings_[0], "no pictures of the video: ");
  expect_contains(warnings_[0], "t.jpg");
  EXPECT_EQ(folder_.num_entries(), 1U);
}

}  // namespace
}  // namespace mochi::job
