// Memory that runs out at any point of a run: the n-th allocation fails, for every n.
#include <dlfcn.h>
#include <execinfo.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <new>
#include <optional>
#include <string>

#include "base/error.h"
#include "base/parallel_for.h"
#include "base/temp_folder.h"
#include "io/video_writer.h"
#include "mochi/mochi.h"
#include "pipeline/tiny_model.h"

namespace {

// Allocations that still succeed; negative: all of them do.
std::atomic<long> s_num_left{-1};

// The protocol buffers of sentencepiece destroy what they have not built yet when an allocation
// fails; they take a few hundred bytes, once for each prompt.
bool is_called_by_sentencepiece() {
  std::array<void*, 64> frames{};
  const int num_frames = ::backtrace(frames.data(), static_cast<int>(frames.size()));
  return std::any_of(frames.begin(), frames.begin() + num_frames, [](const void* frame) {
    Dl_info info{};
    return ::dladdr(frame, &info) != 0 && std::strstr(info.dli_fname, "sentencepiece") != nullptr;
  });
}

bool may_allocate() {
  if (s_num_left < 0) return true;
  if (s_num_left > 0) --s_num_left;
  return s_num_left > 0 || is_called_by_sentencepiece();
}

void* allocate(std::size_t alignment, std::size_t num_bytes) {
  void* block = nullptr;
  if (!may_allocate()) return nullptr;
  return posix_memalign(&block, alignment, num_bytes) == 0 ? block : nullptr;
}

void* allocate_or_throw(std::size_t num_bytes) {
  void* const block = allocate(alignof(std::max_align_t), num_bytes);
  if (block == nullptr) throw std::bad_alloc();
  return block;
}

}  // namespace

// In place of the C library's, which host_allocator() calls, and of the C++ library's.
extern "C" void* aligned_alloc(std::size_t alignment, std::size_t num_bytes) {
  return allocate(alignment, num_bytes);
}
void* operator new(std::size_t num_bytes) { return allocate_or_throw(num_bytes); }
void* operator new[](std::size_t num_bytes) { return allocate_or_throw(num_bytes); }
void operator delete(void* block) noexcept { std::free(block); }
void operator delete[](void* block) noexcept { std::free(block); }
void operator delete(void* block, std::size_t) noexcept { std::free(block); }
void operator delete[](void* block, std::size_t) noexcept { std::free(block); }

namespace mochi {
namespace {

class OutOfMemoryAnywhere : public testing::Test {
 protected:
  OutOfMemoryAnywhere() {
    is_called_by_sentencepiece();  // loads what it needs
    set_num_threads(1);
    write_tiny_model(folder_ / "model",
                     std::filesystem::path(MOCHI_GOLDEN_DIR) / "tokenizer" / "spiece.model");
    std::filesystem::create_directory(folder_ / "out");
    EngineOptions options;
    options.model_dir = folder_ / "model";
    options.num_threads = 1;
    engine_.emplace(options);
    request_ = engine_->model().default_request();
    request_.prompt = "a red ball";
    request_.num_steps = 1;
    request_.num_frames = 1;
    request_.width = 16;
    request_.height = 16;
    request_.cfg_schedule.clear();
    latents_ = engine_->sample(request_);  // from now on the weights are loaded
    decode();
  }
  ~OutOfMemoryAnywhere() override { set_num_threads(0); }

  void decode() {
    const VideoSize size = engine_->model().video_size(latents_);
    const auto writer =
        make_video_writer(folder_ / "out/v.y4m", {size.width, size.height, {24, 1}});
    engine_->decode(latents_, [&](std::span<const std::uint8_t> rgb, std::int64_t) {
      writer->write_frame(rgb);
    });
    writer->finish();
  }

  // Runs the action until it succeeds, with one more allocation each time. Every failure must come
  // out as an exception, and leave no part of a file.
  template <typename Action>
  void fail_everywhere(const Action& action) {
    int num_failed = 0;
    for (long num_allocations = 1;; ++num_allocations) {
      s_num_left = num_allocations;
      bool has_failed = false;
      try {
        action();
      } catch (const std::exception&) {
        has_failed = true;
      }
      const bool ran_out = s_num_left.exchange(-1) == 0;
      for (const auto& entry : std::filesystem::directory_iterator(folder_ / "out")) {
        ASSERT_EQ(entry.path().string().find(".part-"), std::string::npos) << num_allocations;
      }
      if (!ran_out) break;
      num_failed += has_failed ? 1 : 0;
    }
    EXPECT_GT(num_failed, 100);
  }

  const TempFolder folder_;
  std::optional<Engine> engine_;
  GenerateRequest request_;
  Latents latents_;
};

TEST_F(OutOfMemoryAnywhere, SamplingEndsInAnExceptionAndTheEngineStaysUsable) {
  fail_everywhere([&] { engine_->sample(request_); });
  EXPECT_EQ(engine_->sample(request_).values, latents_.values);
}

// Each prompt is a new one of equal length: oneDNN has its primitives, which it cannot create
// without memory.
TEST_F(OutOfMemoryAnywhere, EncodingAPromptEndsInAnExceptionAndTheEngineStaysUsable) {
  std::array<std::string, 7> words{"a", "and", "ball", "blue", "cube", "on", "red"};
  const auto encode_next = [&] {
    std::array<std::string, 1> prompt;
    for (const std::string& word : words) prompt[0] += word + " ";
    std::ranges::next_permutation(words);
    engine_->encode_prompts(prompt);
  };
  encode_next();
  fail_everywhere(encode_next);
  EXPECT_EQ(engine_->sample(request_).values, latents_.values);
}

TEST_F(OutOfMemoryAnywhere, DecodingAndWritingEndInAnExceptionAndTheEngineGoesOn) {
  const std::string before = read_text(folder_ / "out/v.y4m");
  fail_everywhere([&] { decode(); });
  EXPECT_EQ(read_text(folder_ / "out/v.y4m"), before);
}

}  // namespace
}  // namespace mochi
