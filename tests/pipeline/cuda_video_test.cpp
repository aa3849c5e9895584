// Whole videos of the micro model on a GPU, against those of the CPU from the same noise.
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/temp_folder.h"
#include "io/video_quality.h"
#include "mochi/mochi.h"
#include "pipeline/step_observer.h"
#include "pipeline/tiny_model.h"
#include "support/device_tensors.h"
#include "support/golden.h"

namespace mochi {
namespace {

constexpr const char* kPrompt = "a small red ball moves to the right on a white background";

struct Clip {
  Latents latents;
  std::vector<std::uint8_t> rgb;
  int width = 0, height = 0, num_frames = 0;
};

double psnr(const Clip& a, const Clip& b) {
  const auto frame_bytes = static_cast<std::size_t>(a.width) * a.height * 3;
  std::vector<FrameQuality> frames;
  for (std::size_t begin = 0; begin < a.rgb.size(); begin += frame_bytes) {
    frames.push_back(compare_frames(std::span(a.rgb).subspan(begin, frame_bytes),
                                    std::span(b.rgb).subspan(begin, frame_bytes), a.width,
                                    a.height));
  }
  return whole_psnr(frames);
}

Engine make_engine(const BackendCase& which, bool cpu_offload = false, std::vector<Lora> loras = {},
                   std::uint64_t vram_limit_bytes = 0) {
  EngineOptions options;
  options.model_dir = micro_model_folder();
  options.device = which.device.is_cpu() ? DeviceKind::kCpu : DeviceKind::kCuda;
  options.precision = which.dtype == DType::kF32 ? Precision::kFp32 : Precision::kBf16;
  options.cpu_offload = cpu_offload;
  options.vram_limit_bytes = vram_limit_bytes;
  options.loras = std::move(loras);
  return Engine(options);
}

enum class Kind : std::uint8_t { kDense, kSparse, kSparseAsTuned };

GenerateRequest request_for(const Engine& engine, Kind kind) {
  GenerateRequest request = engine.model().default_request();
  request.prompt = kPrompt;
  request.num_frames = 19;
  if (kind == Kind::kSparse) {
    request.sparsity = load_sparsity_config(default_sparsity_file()).config;
  } else if (kind == Kind::kSparseAsTuned) {
    request.sparsity = load_sparsity_config(micro_model_folder() / "chipmunk-config.yml").config;
  }
  return request;
}

Clip generate(Engine& engine, const GenerateRequest& request) {
  Clip video{engine.sample(request), {}, request.width, request.height, request.num_frames};
  engine.decode(video.latents, [&](std::span<const std::uint8_t> rgb, std::int64_t) {
    video.rgb.insert(video.rgb.end(), rgb.begin(), rgb.end());
  });
  return video;
}

// In fp32 on the CPU; made once for all cases.
const Clip& cpu_video(Kind kind) {
  static std::map<Kind, std::optional<Clip>> videos;
  std::optional<Clip>& video = videos[kind];
  if (!video) {
    Engine engine = make_engine(kCpuCase);
    video = generate(engine, request_for(engine, kind));
  }
  return *video;
}

class CudaVideo : public OnDevice {
 protected:
  static void expect_like_cpu(Kind kind, double min_psnr) {
    Engine engine = make_engine(GetParam());
    EXPECT_EQ(engine.info().device, DeviceKind::kCuda);
    const GenerateRequest request = request_for(engine, kind);
    const Clip video = generate(engine, request);
    const Clip& want = cpu_video(kind);
    ASSERT_EQ(video.rgb.size(), want.rgb.size());
    const double decibels = psnr(video, want);
    RecordProperty("psnr_db", std::to_string(decibels));
    record_error("latents", relative_error(video.latents.values, want.latents.values));
    EXPECT_GE(decibels, min_psnr);
    // Repeated by the engine that has its weights, and by a new one.
    EXPECT_TRUE(generate(engine, request).rgb == video.rgb);
    Engine other = make_engine(GetParam());
    EXPECT_TRUE(generate(other, request).rgb == video.rgb);
  }
};

// The portable kernels are no less exact, and tested one by one.
INSTANTIATE_TEST_SUITE_P(On, CudaVideo, testing::Values(kCudaF32Case, kCudaBF16Case), name_of_case);

TEST_P(CudaVideo, DenseAgreesWithTheCpu) {
  expect_like_cpu(Kind::kDense, GetParam().dtype == DType::kF32 ? 60.0 : 38.0);
}

TEST_P(CudaVideo, SparseAgreesWithTheCpu) {
  for (const Kind kind : {Kind::kSparse, Kind::kSparseAsTuned}) {
    expect_like_cpu(kind, GetParam().dtype == DType::kF32 ? 45.0 : 35.0);
  }
}

TEST_P(CudaVideo, ResumesFromACheckpointToTheSameLatents) {
  for (const Kind kind : {Kind::kDense, Kind::kSparse}) {
    Engine engine = make_engine(GetParam());
    GenerateRequest request = request_for(engine, kind);
    request.num_steps = 12;
    request.linear_steps = 6;
    StepObserver observer;
    std::optional<SamplerState> state;
    observer.after_step = [&](const StepView& view) {
      if (view.num_done() == 5) state = view.state();
    };
    const Latents whole = engine.sample(request, observer);
    ASSERT_TRUE(state);
    EXPECT_EQ(state->num_steps_done, 5);
    Engine other = make_engine(GetParam());
    EXPECT_TRUE(other.sample(request, {.start = &*state}).values == whole.values)
        << static_cast<int>(kind);
  }
}

TEST_P(CudaVideo, BlocksOnTheHostGiveTheSameLatents) {
  Engine resident = make_engine(GetParam());
  Engine offloaded = make_engine(GetParam(), true);
  GenerateRequest request = request_for(resident, Kind::kDense);
  request.num_steps = 4;
  request.linear_steps = 2;
  EXPECT_TRUE(offloaded.sample(request).values == resident.sample(request).values);
}

// Too little memory for the caches of sparse steps, and for the networks together.
TEST_P(CudaVideo, CachesOnTheHostGiveTheSameLatents) {
  constexpr std::uint64_t kLimit = std::uint64_t{1024 + 256} << 20;
  Engine resident = make_engine(GetParam());
  GenerateRequest request = request_for(resident, Kind::kSparse);
  request.num_steps = 12;
  request.linear_steps = 6;
  const Latents want = resident.sample(request);
  for (const bool cpu_offload : {false, true}) {
    Engine limited = make_engine(GetParam(), cpu_offload, {}, kLimit);
    EXPECT_TRUE(limited.sample(request).values == want.values) << cpu_offload;
  }
}

TEST_P(CudaVideo, EncodesAVideoAsTheCpuDoes) {
  const Clip& video = cpu_video(Kind::kDense);
  const VideoSize size{video.width, video.height, video.num_frames};
  Engine cpu = make_engine(kCpuCase);
  Engine engine = make_engine(GetParam());
  const double error =
      relative_error(engine.encode(video.rgb, size).values, cpu.encode(video.rgb, size).values);
  record_error("latents", error);
  EXPECT_LE(error, GetParam().dtype == DType::kF32 ? 1e-5 : 2e-2);
}

TEST_P(CudaVideo, ALoraChangesItAsOnTheCpu) {
  const TempFolder folder;
  const std::filesystem::path lora = folder / "lora.safetensors";
  constexpr std::int64_t kWidth = 256;  // of the micro model
  write_tensors(lora,
                {{"blocks.0.attn.qkv_x.lora_A", {1, kWidth}, std::vector(kWidth, 8.0F)},
                 {"blocks.0.attn.qkv_x.lora_B", {3 * kWidth, 1}, std::vector(3 * kWidth, 0.2F)}});
  const auto sample = [&](const BackendCase& which, const std::vector<Lora>& loras) {
    Engine engine = make_engine(which, false, loras);
    GenerateRequest request = request_for(engine, Kind::kDense);
    request.num_steps = 2;
    request.linear_steps = 1;
    return engine.sample(request).values;
  };
  const std::vector<float> want = sample(kCpuCase, {{lora}});
  EXPECT_GT(relative_error(sample(kCpuCase, {}), want), 0.1);
  EXPECT_LE(relative_error(sample(GetParam(), {{lora}}), want),
            GetParam().dtype == DType::kF32 ? 1e-4 : 3e-2);
}

// A generation whose GPU fails after its third step reports the error and the saved file.
void lose_gpu(const BackendCase& which, Kind kind) {
  StepObserver observer;
  try {
    Engine engine = make_engine(which);
    GenerateRequest request = request_for(engine, kind);
    observer.after_step = [&](const StepView& view) {
      if (view.num_done() != 3) return;
      // Reading far beyond a tensor makes the driver give up this program's GPU work for good.
      Backend& backend = shared_cuda_backend(which);
      const Tensor far(DType::kI32, {1}, backend.allocator());
      const Tensor host(DType::kI32, {1});
      *reinterpret_cast<std::int32_t*>(host.view().bytes()) = 1 << 30;
      backend.run(ops::Upload{.host = host, .target = far});
      const Tensor rows = Tensor(which.dtype, {2, 4096}, backend.allocator());
      backend.run(ops::GatherRows{.x = rows, .indices = far, .out = rows.view().rows(0, 1)});
    };
    engine.sample(request, observer);
  } catch (const Error& error) {
    std::fprintf(stderr, "%s; interrupted after %d steps, %zu values, %s\n", error.what(),
                 observer.num_done, observer.latents.values.size(),
                 observer.state ? "with a state" : "without a state");
    std::exit(1);
  }
}

using CudaFaultsDeathTest = CudaVideo;
INSTANTIATE_TEST_SUITE_P(On, CudaFaultsDeathTest, testing::Values(kCudaBF16Case), name_of_case);

TEST_P(CudaFaultsDeathTest, ALostGpuEndsWithAMessageAndSavedLatents) {
  testing::FLAGS_gtest_death_test_style =
      "threadsafe";  // a separate program, with its own GPU work
  for (const Kind kind : {Kind::kDense, Kind::kSparse}) {
    const std::string state = kind == Kind::kDense ? "with a state" : "without a state";
    EXPECT_EXIT(lose_gpu(GetParam(), kind), testing::ExitedWithCode(1),
                "step 4 of 64: GPU: .*; interrupted after 3 steps, [1-9][0-9]* values, " + state);
  }
}

}  // namespace
}  // namespace mochi
