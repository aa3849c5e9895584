// Makes a video from a prompt with the public API alone, and writes it as y4m:
//   generate MODEL_DIR PROMPT VIDEO.y4m [NUM_FRAMES [NUM_STEPS]]
#include <mochi/mochi.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

namespace {

// Prints where the call stands. Returning false from on_progress() or true from should_stop() would
// end it.
class ProgressPrinter : public mochi::Observer {
 public:
  bool on_progress(const mochi::Progress& progress) override {
    const std::string phase(name_of(progress.phase));
    std::fprintf(stderr, "\r\033[K%s %s %lld/%lld", phase.c_str(), progress.item.c_str(),
                 static_cast<long long>(progress.num_done),
                 static_cast<long long>(progress.num_total));
    if (progress.num_done == progress.num_total) std::fprintf(stderr, "\n");
    return true;
  }
  void on_step(const mochi::StepView& view) override { num_steps_ = view.num_done(); }
  int num_steps() const { return num_steps_; }

 private:
  int num_steps_ = 0;
};

// A file of uncompressed frames, 4:4:4 and BT.601.
class Y4mFile {
 public:
  explicit Y4mFile(const std::string& path) : file_(path, std::ios::binary) {
    if (!file_) throw mochi::Error("cannot write " + path);
  }

  void begin(const mochi::VideoSize& size, int fps) {
    file_ << "YUV4MPEG2 W" << size.width << " H" << size.height << " F" << fps
          << ":1 Ip A1:1 C444\n";
  }

  void add(std::span<const std::uint8_t> rgb) {
    const std::size_t num_pixels = rgb.size() / 3;
    std::vector<char> planes(rgb.size());
    for (std::size_t i = 0; i < num_pixels; ++i) {
      const double r = rgb[3 * i];
      const double g = rgb[3 * i + 1];
      const double b = rgb[3 * i + 2];
      const double luma = 0.299 * r + 0.587 * g + 0.114 * b;
      planes[i] = to_byte(16 + luma * 219 / 255);
      planes[num_pixels + i] = to_byte(128 + (b - luma) / 1.772 * 224 / 255);
      planes[2 * num_pixels + i] = to_byte(128 + (r - luma) / 1.402 * 224 / 255);
    }
    file_ << "FRAME\n";
    file_.write(planes.data(), static_cast<std::streamsize>(planes.size()));
  }
  void close() {
    file_.close();
    if (!file_) throw mochi::Error("the video could not be written");
  }

 private:
  static char to_byte(double value) {
    return static_cast<char>(static_cast<std::uint8_t>(std::clamp(value + 0.5, 0.0, 255.0)));
  }
  std::ofstream file_;
};

int parse_int(const char* text) {
  int value = 0;
  const char* const end = text + std::strlen(text);
  const auto [stop, error] = std::from_chars(text, end, value);
  if (error != std::errc() || stop != end) throw mochi::Error(std::string("no number: ") + text);
  return value;
}

void generate(int argc, char** argv) {
  mochi::Engine engine(
      {.model_dir = argv[1], .on_message = [](mochi::MessageLevel, std::string_view line) {
         std::fprintf(stderr, "%s\n", std::string(line).c_str());
       }});
  mochi::GenerateRequest request = engine.model().default_request();
  request.prompt = argv[2];
  if (argc > 4) request.num_frames = parse_int(argv[4]);
  if (argc > 5) {
    request.num_steps = parse_int(argv[5]);
    request.linear_steps = 0;  // half of them
  }
  for (const std::string& warning : engine.model().warnings(request)) {
    std::fprintf(stderr, "warning: %s\n", warning.c_str());
  }
  Y4mFile file(argv[3]);  // better now than after the work
  ProgressPrinter observer;
  const mochi::Latents latents = engine.sample(request, observer);
  file.begin(engine.model().video_size(latents), engine.model().default_fps());
  engine.decode(
      latents, [&](std::span<const std::uint8_t> rgb, std::int64_t) { file.add(rgb); }, observer);
  file.close();
  std::printf("%s: %d steps on %s\n", argv[3], observer.num_steps(),
              engine.info().device_name.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4 || argc > 6) {
    std::fprintf(stderr, "usage: generate MODEL_DIR PROMPT VIDEO.y4m [NUM_FRAMES [NUM_STEPS]]\n");
    return 2;
  }
  try {
    generate(argc, argv);
    return 0;
  } catch (const mochi::InvalidRequest& error) {
    std::fprintf(stderr, "generate: %s is refused: %s\n", error.field().c_str(),
                 error.problem().c_str());
    return 2;
  } catch (const mochi::OutOfMemory& error) {
    const bool helps = error.remedies().contains(mochi::Remedy::kSmallerVideo);
    std::fprintf(stderr, "generate: %s%s\n", error.what(), helps ? "; try fewer frames" : "");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "generate: %s\n", error.what());
  }
  return 1;
}
