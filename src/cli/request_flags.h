// The flags of a request's fields, made from the list in job/request.h.
#pragma once

#include <initializer_list>
#include <string_view>
#include <vector>

#include "cli/cli_fwd.h"
#include "job/resolve.h"

namespace mochi::cli {

// In the order in which help shows them.
using Flags = std::vector<const CLI::Option*>;

// Declares the flags of all fields with one of these offers; they write into `request`, which must
// outlive the parsing.
Flags add_request_flags(CLI::App& command, job::Request& request,
                        std::initializer_list<job::Offer> offers);

// The flag of one field, with the command's own help.
CLI::Option* add_field_flag(CLI::App& command, job::Request& request, std::string_view field,
                            std::string_view help);

// Fields that have no effect, and the model's warnings, one line each.
void tell_warnings(const job::Resolved& resolved);

}  // namespace mochi::cli
