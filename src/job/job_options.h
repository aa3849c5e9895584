// The options of one video: its request, its files, the engine that makes it.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "job/request.h"

namespace mochi::job {

struct JobOptions {
  Request request;
  std::optional<std::filesystem::path> latents_file;  // decode these; nothing is sampled
  std::optional<std::filesystem::path> output;        // without one, a new name in out_dir
  std::optional<std::filesystem::path> out_dir;       // default: videos
  std::optional<std::filesystem::path> save_latents;
  std::optional<int> checkpoint_every;  // steps between two checkpoints; 0: none
  bool checks_finite = false;
  EngineOptions engine;
};

// `upper` where it has a value, else `lower`; requests by their own rules.
JobOptions overlay(JobOptions lower, const JobOptions& upper);

}  // namespace mochi::job
