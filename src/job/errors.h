#pragma once
#include "base/error.h"
namespace mochi {
class InvalidRequest : public Error {
 public:
  InvalidRequest(std::string field, std::string problem)
      : Error(field + ": " + problem), field_(std::move(field)), problem_(std::move(problem)) {}
  const std::string& field() const { return field_; }
  const std::string& problem() const { return problem_; }
 private:
  std::string field_, problem_;
};
}  // namespace mochi
