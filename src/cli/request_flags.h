// The flags of a request's fields, made from the list in job/request.h.
#pragma once

#include <initializer_list>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "flags/cli11_fwd.h"
#include "job/resolve.h"

namespace mochi::cli {

// In the order in which help shows them.
using Flags = std::vector<const CLI::Option*>;

// Declares the flags of all fields with one of these offers; they write into `request`, which must
// outlive the parsing.
Flags add_request_flags(CLI::App& command, job::Request& request,
                        std::initializer_list<job::Offer> offers);

// The flag of one field, with the command's own help, or the field's if `help` is empty.
CLI::Option* add_field_flag(CLI::App& command, job::Request& request, std::string_view field,
                            std::string_view help = {});

// Tells what is doubtful about the requests of a run, one line each. What several videos have in
// common is told once.
class RequestWarnings {
 public:
  RequestWarnings(bool is_quiet, bool is_verbose) : is_quiet_(is_quiet), is_verbose_(is_verbose) {}

  // Fields that have no effect and the model's warnings; to the verbose also the keys of the
  // sparsity file `given` names that have no effect.
  void tell(const job::Request& given, const job::Resolved& resolved);

 private:
  void tell_once(const std::string& line);

  bool is_quiet_;
  bool is_verbose_;
  std::set<std::string> told_;
};

}  // namespace mochi::cli
