#include "cli/serve.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <optional>

#include "base/error.h"
#include "cli/interrupt.h"
#include "cli/terminal.h"
#include "server/run_worker.h"
#include "server/serve.h"

namespace mochi::cli {
namespace {

constexpr const char* kAnyGpu = "any";

// The program's own file, also where it was started by its name alone or has been replaced since.
constexpr const char* kOwnProgram = "/proc/self/exe";

// "mochi serve --port 1" → "PROGRAM serve-worker GPU --port 1".
std::vector<std::string> worker_command(const std::vector<std::string>& command, int gpu) {
  std::vector<std::string> words{std::filesystem::read_symlink(kOwnProgram).string(),
                                 kWorkerCommand, gpu < 0 ? kAnyGpu : fmt::to_string(gpu)};
  bool is_after_name = false;
  for (std::size_t i = 1; i < command.size(); ++i) {
    if (is_after_name || command[i] != "serve") {
      words.push_back(command[i]);
    } else {
      is_after_name = true;
    }
  }
  return words;
}

// The GPU of this number, among those that the program may see, becomes the only one.
void choose_gpu(const std::string& gpu) {
  constexpr const char* kVisible = "CUDA_VISIBLE_DEVICES";
  const char* const given = std::getenv(kVisible);  // NOLINT(concurrency-mt-unsafe): one thread
  std::string chosen = gpu;
  if (given != nullptr) {
    std::vector<std::string> visible;
    const std::string list = given;
    for (std::size_t begin = 0; begin <= list.size();) {
      const std::size_t end = std::min(list.find(',', begin), list.size());
      visible.push_back(list.substr(begin, end - begin));
      begin = end + 1;
    }
    const auto number = static_cast<std::size_t>(std::stoul(gpu));
    if (number >= visible.size()) {
      fail("--gpus: wanted one of the {} of {}, found {}", visible.size(), kVisible, gpu);
    }
    chosen = visible[number];
  }
  ::setenv(kVisible, chosen.c_str(), 1);  // NOLINT(concurrency-mt-unsafe): one thread
}

}  // namespace

void run_serve(const ServeOptions& options) {
  server::ServerFace face;
  face.log = [](std::string_view line) { tell("mochi: {}", line); };
  face.on_ready = [](const std::string& address, const std::string& model) {
    tell("mochi: serving {} (model {})", address, model);
  };
  face.worker_command = [&options](int gpu) { return worker_command(options.command, gpu); };
  face.stop_descriptor = interrupt_descriptor();
  server::serve(options.server, face);
}

void run_serve_worker(const ServeOptions& options, const std::string& gpu) {
  if (gpu != kAnyGpu) choose_gpu(gpu);
  server::run_worker(options.server, gpu == kAnyGpu ? -1 : std::stoi(gpu));
}

}  // namespace mochi::cli
