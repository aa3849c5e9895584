// Everything that the program writes to its standard output and standard error.
//
// There are two kinds of text. Messages (progress, warnings, a summary) never end a run, even if
// the stream fails. A requested result (JSON, a manual, a table) that cannot be written is an
// error.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>

namespace mochi::cli {

// Standard streams that are closed are opened in such a way that using them fails, so that no file
// of the run gets their numbers; writing to a pipe without a reader becomes an error in place of a
// signal. The first call of main().
void secure_standard_streams();

// Returns the current number of columns of the terminal that standard error is connected to; 0 if
// it is no terminal.
int terminal_width();

// One line on standard error, made printable(). An open progress bar is replaced.
void tell_line(std::string_view text) noexcept;

// One line of a summary on standard output, made printable().
void tell_summary_line(std::string_view text) noexcept;

// Several lines of a summary, such as a table; each of them is made printable().
void tell_summary_lines(std::string_view text) noexcept;

// Bytes for standard error as they are: a progress bar.
void tell_raw(std::string_view text) noexcept;

// A result, as it is. Throws Error if it cannot be written.
void print_result(std::string_view text);

// One line of a result, made printable(). Throws Error if it cannot be written.
void print_result_line(std::string_view text);

// Throws Error if standard output is closed: before a long run whose result goes there.
void check_standard_output();

template <typename... Args>
void tell(fmt::format_string<Args...> format, Args&&... args) noexcept {
  try {
    tell_line(fmt::format(format, std::forward<Args>(args)...));
  } catch (...) {  // memory is exhausted
    tell_raw("mochi: out of memory\n");
  }
}

template <typename... Args>
void tell_summary(fmt::format_string<Args...> format, Args&&... args) noexcept {
  try {
    tell_summary_line(fmt::format(format, std::forward<Args>(args)...));
  } catch (...) {  // as above
    return;
  }
}

template <typename... Args>
void print_line(fmt::format_string<Args...> format, Args&&... args) {
  print_result_line(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace mochi::cli
