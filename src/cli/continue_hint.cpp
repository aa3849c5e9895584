#include "cli/continue_hint.h"

#include <fmt/format.h>

#include <algorithm>

#include "cli/flag_names.h"
#include "flags/shell_command.h"

namespace mochi::cli {
namespace {

using Words = std::vector<std::string>;

std::string program_of(const GenerateOptions& given) {
  return given.run.command.empty() ? "mochi" : given.run.command.front();
}

void add_threads(Words& words, const EngineOptions& engine) {
  if (engine.num_threads == 0) return;
  words.insert(words.end(), {"--threads", std::to_string(engine.num_threads)});
}

// Settings of the machine, which a checkpoint does not carry.
void add_machine(Words& words, const EngineOptions& engine) {
  add_threads(words, engine);
  if (engine.cpu_offload) words.emplace_back("--cpu-offload");
  if (engine.vram_limit_bytes > 0) {
    words.insert(words.end(), {"--vram-limit", std::to_string(engine.vram_limit_bytes)});
  }
}

void add_model(Words& words, const EngineOptions& engine) {
  if (!engine.model_dir.empty()) {
    words.insert(words.end(), {"--model-dir", flags::path_word(engine.model_dir)});
  }
  visit_paths(engine.paths, [&words](const char* field, const std::filesystem::path& path) {
    if (!path.empty()) words.insert(words.end(), {to_flag(field), flags::path_word(path)});
  });
  if (engine.random_weights != RandomWeights::kNone) {
    words.insert(words.end(), {"--random-weights", std::string(name_of(engine.random_weights))});
  }
}

}  // namespace

std::string continuing_command(const job::Kept& kept, const job::Job& job,
                               const GenerateOptions& given) {
  Words words{program_of(given)};
  if (kept.kind == job::Kept::Kind::kCheckpoint) {
    words.insert(words.end(), {"generate", "--resume", flags::path_word(kept.file)});
    add_machine(words, given.job.engine);
    return flags::join_command(words);
  }
  words.insert(words.end(), {"decode", flags::path_word(kept.file)});
  add_model(words, given.job.engine);
  words.insert(words.end(), {"--out", flags::path_word(job.output), "--fps",
                             format_frame_rate(job.recipe.fps())});
  add_threads(words, given.job.engine);
  return flags::join_command(words);
}

std::string resuming_command(std::vector<std::string> words) {
  if (std::ranges::find(words, "--resume") == words.end()) words.emplace_back("--resume");
  return flags::join_command(words);
}

std::string continue_hint(const job::Kept& kept, const job::Job& job,
                          const GenerateOptions& given) {
  const bool is_checkpoint = kept.kind == job::Kept::Kind::kCheckpoint;
  return fmt::format("{}; to continue: {}",
                     is_checkpoint ? "the steps before are saved" : "the sampled latents are saved",
                     continuing_command(kept, job, given));
}

}  // namespace mochi::cli
