// The quality of one video compared with another, frame by frame.
#pragma once

#include <cstdint>
#include <span>

namespace mochi {

// The difference of two frames [height, width, 3] of RGB bytes.
struct FrameQuality {
  double psnr = 0;  // dB over all bytes, peak 255; infinite for equal frames
  double ssim = 0;  // structural similarity of the luma (Wang, Bovik, Sheikh, Simoncelli 2004)
  int largest_difference = 0;  // largest difference of two bytes
};

// SSIM as published: Gaussian window of 11×11 with σ = 1.5, K1 = 0.01, K2 = 0.03, mean over all
// positions where the window is inside. Luma by BT.601. Frames below 11 pixels in height or width
// have one window, cut to their size.
FrameQuality compare_frames(std::span<const std::uint8_t> a, std::span<const std::uint8_t> b,
                            int width, int height);

// PSNR over all bytes of a video of such frames, which one equal frame does not make infinite.
double whole_psnr(std::span<const FrameQuality> frames);
// &FrameQuality::psnr or ssim.
double mean_of(std::span<const FrameQuality> frames, double FrameQuality::* member);

}  // namespace mochi
