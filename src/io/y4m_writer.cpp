// YUV4MPEG2, uncompressed.
#include <fmt/core.h>

#include <array>
#include <string>
#include <vector>

#include "base/atomic_file.h"
#include "io/color.h"
#include "io/video_writers.h"

namespace mochi {
namespace {

class Y4mWriter final : public VideoWriter {
 public:
  Y4mWriter(const std::filesystem::path& path, const VideoFormat& format)
      : VideoWriter(path, format),
        is_subsampled_(format.width % 2 == 0 && format.height % 2 == 0),
        file_(path, SpecialFile::kRefuse) {
    // Averaging 2x2 pixels puts the chroma sample in their middle, which is what "420jpeg" says.
    file_.write(fmt::format("YUV4MPEG2 W{} H{} F{}:{} Ip A1:1 C{} XCOLORRANGE=LIMITED\n",
                            format.width, format.height, format.fps.numerator,
                            format.fps.denominator, is_subsampled_ ? "420jpeg" : "444"));
  }

 private:
  void encode_frame(std::span<const std::uint8_t> rgb) override {
    const auto width = static_cast<std::size_t>(format().width);
    const auto height = static_cast<std::size_t>(format().height);
    const std::size_t num_pixels = width * height;
    const std::size_t block = is_subsampled_ ? 2 : 1;
    const std::size_t num_chroma = num_pixels / (block * block);
    planes_.resize(num_pixels + 2 * num_chroma);
    for (std::size_t i = 0; i < num_pixels; ++i) {
      planes_[i] = rgb_to_ycbcr(mean_color(rgb.subspan(3 * i), width, 1))[0];
    }
    std::size_t chroma_idx = num_pixels;
    for (std::size_t y = 0; y < height; y += block) {
      for (std::size_t x = 0; x < width; x += block) {
        const auto color = mean_color(rgb.subspan(3 * (y * width + x)), width, block);
        const std::array<std::uint8_t, 3> ycbcr = rgb_to_ycbcr(color);
        planes_[chroma_idx] = ycbcr[1];
        planes_[chroma_idx + num_chroma] = ycbcr[2];
        ++chroma_idx;
      }
    }
    file_.write("FRAME\n");
    file_.write(std::as_bytes(std::span(planes_)));
  }

  void finish_file() override { file_.commit(); }

  // Returns the mean colour of block x block pixels; rgb begins at the first of them.
  static std::array<float, 3> mean_color(std::span<const std::uint8_t> rgb, std::size_t width,
                                         std::size_t block) {
    std::array<float, 3> sum{};
    for (std::size_t y = 0; y < block; ++y) {
      for (std::size_t x = 0; x < block; ++x) {
        for (std::size_t channel = 0; channel < 3; ++channel) {
          sum[channel] += static_cast<float>(rgb[3 * (y * width + x) + channel]);
        }
      }
    }
    for (float& value : sum) value /= static_cast<float>(block * block);
    return sum;
  }

  bool is_subsampled_;
  AtomicFile file_;
  std::vector<std::uint8_t> planes_;
};

}  // namespace

std::unique_ptr<VideoWriter> make_y4m_writer(const std::filesystem::path& path,
                                             const VideoFormat& format) {
  return std::make_unique<Y4mWriter>(path, format);
}

}  // namespace mochi
