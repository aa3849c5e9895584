#pragma once

#include "base/error.h"

namespace mochi::flags {

// The command line is at fault, not the machine or a file.
class UsageError : public Error {
 public:
  using Error::Error;
};

}  // namespace mochi::flags
