// Completes a request so that every field has a value.
#pragma once

#include <string>
#include <vector>

#include "base/stop.h"
#include "job/job_options.h"

namespace mochi::job {

// The source of values that are not the caller's own request: a line of a sweep file, or a recipe.
// Errors about them name the file and the key.
struct FieldSource {
  std::string name;                 // "sweep.jsonl:3"; empty: there is none
  std::string prefix;               // prefix of its keys: "request."
  std::vector<std::string> fields;  // the fields that come from there
  bool is_line = false;             // a line of a sweep file, which all errors of its video name
};

// Throws the engine's error about a field as an Error naming file and key, or as InvalidRequest
// with the request's name of the field.
[[noreturn]] void throw_located(const InvalidRequest& error, const FieldSource& source);

// Runs a check of a field that may come from `source`.
template <typename Check>
auto locate_errors(const FieldSource& source, const Check& check) {
  try {
    return check();
  } catch (const InvalidRequest& error) {
    throw_located(error, source);
  }
}

struct Resolved {
  Request request;           // all fields have a value; of latents to decode, only fps
  GenerateRequest generate;  // for the engine; unused for latents to decode
  VideoSize size;
  Latents latents;                        // values where they are read from a file
  std::vector<Overruled> overruled;       // fields that were given and have no effect
  std::vector<std::string> warnings;      // about valid, but probably unintended settings
  std::vector<std::string> ignored_keys;  // keys of the sparsity file without effect here
};

// Returns the request, completed with the model's defaults. Throws InvalidRequest naming the field,
// or Error naming the file, for requests that the engine would refuse; Cancelled if should_stop
// ends the wait for a pipe.
Resolved resolve(const JobOptions& options, const ModelInfo& model, const FieldSource& source = {},
                 const StopFn& should_stop = {});

}  // namespace mochi::job
