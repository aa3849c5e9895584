// Measures the engine: matmuls, a step of the transformer, and the decoding of a video. Prints one
// JSON object with medians. With --serve it answers commands with one repetition each, so that a
// driver can alternate with another program.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <exception>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/error.h"
#include "base/memory_usage.h"
#include "base/nearest.h"
#include "base/parallel_for.h"
#include "bench/measure.h"
#include "io/safetensors.h"
#include "pipeline/request.h"
#include "workloads.h"

namespace mochi::bench {
namespace {

using Json = nlohmann::ordered_json;

struct Options {
  Setup setup{.model_dir = MOCHI_MICRO_DIR,
              .prompt = "a large green ring moves to the left on a dark background",
              .size = {}};
  int num_threads = 0;
  int num_repetitions = 7;
  bool is_serving = false;
  std::filesystem::path dump_file;
};

void add_flags(CLI::App& app, Options& options) {
  app.add_option("--model-dir", options.setup.model_dir, "folder of the model");
  app.add_option("--prompt", options.setup.prompt, "whose text features the transformer sees")
      ->capture_default_str();
  app.add_option("--seed", options.setup.seed, "of the random inputs")->capture_default_str();
  app.add_option("--width", options.setup.size.width, "pixels (default: the model's)");
  app.add_option("--height", options.setup.size.height, "pixels (default: the model's)");
  app.add_option("--num-frames", options.setup.size.num_frames, "6k + 1 (default: the model's)");
  app.add_option("--threads", options.num_threads, "0: all cores")->capture_default_str();
  app.add_option("--repetitions", options.num_repetitions, "of which the median is printed")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_flag("--serve", options.is_serving,
               "read workload names from stdin, run each once, answer with one JSON line");
  app.add_option("--dump", options.dump_file, "write inputs and outputs to a .safetensors file");
}

VideoSize complete_size(VideoSize size, const GenerationDefaults& defaults) {
  if (size.width == 0) size.width = defaults.width;
  if (size.height == 0) size.height = defaults.height;
  if (size.num_frames == 0) size.num_frames = defaults.num_frames;
  return size;
}

struct Timing {
  double seconds;      // wall-clock time
  double cpu_seconds;  // time of all threads; more reliable on a busy machine
};

Timing measure(Workload& workload) {
  const std::clock_t cpu_start = std::clock();
  const auto start = std::chrono::steady_clock::now();
  workload.run();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  return {seconds.count(), static_cast<double>(std::clock() - cpu_start) / CLOCKS_PER_SEC};
}

class Bench {
 public:
  explicit Bench(const Options& options)
      : backend_(make_backend(Device::cpu())), directory_(options.setup.model_dir) {
    directory_.config().validate();
    const VideoSize size = complete_size(options.setup.size, directory_.config().generation);
    const Latents latents = size_latents(directory_.config(), size);
    dit_ = std::make_shared<DitWorkload>(*backend_, directory_, options.setup, latents);
    decode_ = std::make_shared<DecodeWorkload>(*backend_, directory_, options.setup, latents);
    for (const Shape& shape : peak_gemm_sizes()) {
      workloads_.push_back(std::make_shared<GemmWorkload>(*backend_, shape[0], shape[1], shape[2]));
    }
    workloads_.push_back(dit_);
    workloads_.push_back(decode_);
  }

  Workload& find(const std::string& name) const {
    std::vector<std::string> known;
    for (const auto& workload : workloads_) {
      if (workload->name() == name) return *workload;
      known.push_back(workload->name());
    }
    fail("unknown workload '{}', {}", name, suggest_name(name, known));
  }

  Json describe() const {
    Json workloads = Json::object();
    for (const auto& workload : workloads_) {
      workloads[workload->name()] = {{"gflop", workload->flops() * 1e-9}};
    }
    return {{"num_threads", num_threads()},
            {"num_text_tokens", dit_->text().dim(0)},
            {"latents", dit_->latents().shape().sizes()},
            {"workloads", workloads}};
  }

  // Measures all workloads in turn.
  Json report(int num_repetitions) const {
    Json json = describe();
    double peak = 0.0;
    for (const auto& workload : workloads_) {
      workload->run();  // warms caches and builds primitives
      std::vector<double> seconds;
      for (int i = 0; i < num_repetitions; ++i) seconds.push_back(measure(*workload).seconds);
      const double gflops = workload->flops() * 1e-9 / median(seconds);
      if (workload->name().starts_with("gemm")) peak = std::max(peak, gflops);
      Json& entry = json["workloads"][workload->name()];
      entry["seconds"] = seconds;
      entry["median_seconds"] = median(seconds);
      entry["gflops"] = gflops;
    }
    json["gemm_peak_gflops"] = peak;
    for (auto& [name, entry] : json["workloads"].items()) {
      entry["share_of_gemm_peak"] = entry["gflops"].get<double>() / peak;
    }
    json["peak_memory_bytes"] = peak_memory_bytes();
    return json;
  }

  void serve() const {
    std::cout << describe().dump() << std::endl;
    for (std::string name; std::getline(std::cin, name);) {
      const Timing timing = measure(find(name));
      const Json answer{
          {"workload", name}, {"seconds", timing.seconds}, {"cpu_seconds", timing.cpu_seconds}};
      std::cout << answer.dump() << std::endl;
    }
  }

  // Writes the inputs that another implementation needs, and the outputs that it must reproduce.
  void dump(const std::filesystem::path& path, double sigma) const {
    dit_->run();
    const Tensor frames = decode_->decode_frames();
    const auto sigma_f32 = static_cast<float>(sigma);
    std::vector<NamedTensor> tensors{
        {"dit.sigma", DType::kF32, {1}, std::as_bytes(std::span(&sigma_f32, 1))}};
    const auto add = [&tensors](const char* name, const TensorView& view) {
      tensors.push_back({name, view.dtype(), view.shape(), {view.bytes(), view.size_bytes()}});
    };
    add("dit.text", dit_->text());
    add("dit.latents", dit_->latents());
    add("dit.velocity_cond", dit_->velocity(Branch::kCond));
    add("dit.velocity_null", dit_->velocity(Branch::kNull));
    add("decode.latents", decode_->latents());
    add("decode.frames", frames);
    write_safetensors(path, tensors);
  }

 private:
  std::unique_ptr<Backend> backend_;
  ModelDirectory directory_;
  std::shared_ptr<DitWorkload> dit_;
  std::shared_ptr<DecodeWorkload> decode_;
  std::vector<std::shared_ptr<Workload>> workloads_;
};

int run(int argc, char** argv) {
  Options options;
  CLI::App app("Measures the engine on a model.", "mochi_model_bench");
  add_flags(app, options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  }
  set_num_threads(options.num_threads);
  const Bench bench(options);
  if (!options.dump_file.empty()) bench.dump(options.dump_file, options.setup.sigma);
  if (options.is_serving) {
    bench.serve();
  } else {
    std::cout << bench.report(options.num_repetitions).dump(2) << "\n";
  }
  return 0;
}

}  // namespace
}  // namespace mochi::bench

int main(int argc, char** argv) {
  try {
    return mochi::bench::run(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "mochi_model_bench: {}\n", error.what());
    return 1;
  }
}
