#include "base/error.h"

#include <cstring>

#include "base/printable.h"

namespace mochi {

std::string describe_errno(int code) {
  std::string text = std::strerror(code);
  for (const auto& [theirs, ours] : {std::pair{"directory", "folder"}, {"Directory", "Folder"}}) {
    const std::size_t at = text.find(theirs);
    if (at != std::string::npos) text.replace(at, std::strlen(theirs), ours);
  }
  return text;
}

Error::Error(const std::string& message) : std::runtime_error(printable(message)) {}

InvalidRequest::InvalidRequest(std::string field, std::string problem)
    : Error(field + ": " + problem), field_(std::move(field)), problem_(std::move(problem)) {}

ModelMissing::ModelMissing(const std::string& message, std::string folder,
                           std::set<ModelPart> parts)
    : Error(message), folder_(std::move(folder)), parts_(std::move(parts)) {}

OutOfMemory::OutOfMemory(const std::string& message, std::set<Remedy> remedies)
    : Error(message), remedies_(std::move(remedies)) {}

Cancelled::Cancelled() : Error("cancelled") {}

Busy::Busy()
    : Error(
          "the engine is busy: another call on it is running, in another thread or further up in "
          "this one") {}

}  // namespace mochi
