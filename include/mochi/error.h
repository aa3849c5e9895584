// The errors that mochi.cpp throws.
#pragma once

#include <cstdint>
#include <set>
#include <stdexcept>
#include <string>

namespace mochi {

// Base of all errors. what() is one printable line that names the file, field or key, what was
// wanted and what was found.
class Error : public std::runtime_error {
 public:
  // Control characters and bytes that are not UTF-8, which names from files may hold, are written
  // as \xNN: the message stays one line and cannot steer a terminal.
  explicit Error(const std::string& message);
};

// A field of GenerateRequest, EngineOptions, SampleOptions or another argument has a value that is
// not accepted. what() is "field: problem"; a program that has other names for the fields (flags,
// form fields) builds its own line from field() and problem().
class InvalidRequest : public Error {
 public:
  InvalidRequest(std::string field, std::string problem);
  const std::string& field() const { return field_; }      // as declared: "num_frames"
  const std::string& problem() const { return problem_; }  // "wanted 6·k + 1, found 12; ..."

 private:
  std::string field_, problem_;
};

enum class ModelPart : std::uint8_t {
  kTextEncoder,
  kTransformer,
  kVideoDecoder,
  kVideoEncoder,
  kTokenizer
};

// A model's folder, or files that it should have, do not exist. what() names them; those of Mochi 1
// can be downloaded into the folder.
class ModelMissing : public Error {
 public:
  ModelMissing(const std::string& message, std::string folder, std::set<ModelPart> parts = {});
  const std::string& folder() const { return folder_; }
  // The parts that are missing; empty if the folder does not exist.
  const std::set<ModelPart>& parts() const { return parts_; }

 private:
  std::string folder_;
  std::set<ModelPart> parts_;
};

// A change of the call that lets it succeed with less memory.
enum class Remedy : std::uint8_t {
  kSmallerVideo,    // a smaller width, height or num_frames
  kCpuOffload,      // EngineOptions::cpu_offload
  kBf16,            // EngineOptions::precision = Precision::kBf16
  kRaiseVramLimit,  // EngineOptions::vram_limit_bytes is set, and may be too low
};

// Memory of the host or of a device is exhausted. what() states the facts and names no remedy.
class OutOfMemory : public Error {
 public:
  explicit OutOfMemory(const std::string& message, std::set<Remedy> remedies = {});
  const std::set<Remedy>& remedies() const { return remedies_; }

 private:
  std::set<Remedy> remedies_;
};

// Sampling gave a value that is NaN or infinite. what() names the step, and with
// SampleOptions::checks_finite the layer.
class NotFinite : public Error {
 public:
  using Error::Error;
};

// The caller's Observer ended the call. The engine can be used again.
class Cancelled : public Error {
 public:
  Cancelled();
};

// An Engine was called while another call on it was running: from a second thread, or from inside
// an Observer or FrameSink.
class Busy : public Error {
 public:
  Busy();
};

}  // namespace mochi
