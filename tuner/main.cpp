// The `tandem` program: parses the command line, runs one subcommand, turns errors into one line
// and an exit code.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <new>
#include <string>
#include <system_error>

#include "kernels/error.h"
#include "profiles/topology.h"
#include "tuner/commands.h"
#include "tuner/interrupt.h"

namespace tandem {
namespace {

constexpr int kInternalError = 1;
constexpr int kBadInput = 2;

constexpr const char* kDescription =
    "Measures a machine, finds the best division of an LLM over its processing units, runs it, "
    "and\n"
    "prints what was predicted beside what was measured.";

constexpr const char* kFooter =
    "The whole loop:\n"
    "  tandem profile --quick -o machine.yaml\n"
    "  tandem plan --model tinyllama-1.1b --machine machine.yaml -o plan.yaml\n"
    "  tandem run --plan plan.yaml --random-prompt 64 -n 32\n"
    "Exit codes: 0 done, 1 internal error, 2 bad input, 3 outside of what validate allows.";

void add_commands(CLI::App& app, int& exit_code) {
  add_info_command(app, exit_code);
  add_profile_command(app, exit_code);
  add_plan_command(app, exit_code);
  add_explain_command(app, exit_code);
  add_simulate_command(app, exit_code);
  add_run_command(app, exit_code);
  add_validate_command(app, exit_code);
  add_compare_command(app, exit_code);
  add_synthesize_command(app, exit_code);
}

int run_command_line(int argc, char** argv) {
  int exit_code = 0;
  CLI::App app(kDescription, "tandem");
  app.footer(kFooter);
  app.set_version_flag("--version", std::string("tandem ") + kToolVersion);
  app.require_subcommand(0, 1);
  add_commands(app, exit_code);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& asked_for_text) {
    return app.exit(asked_for_text);
  }
  if (app.get_subcommands().empty()) fmt::print("{}", app.help());
  // A full disk shows only here.
  if (std::fflush(stdout) != 0)
    throw std::system_error(errno, std::generic_category(), "standard output");
  return exit_code;
}

/// One line on stderr, whatever the message holds.
int report(std::string message, int exit_code) {
  std::replace(message.begin(), message.end(), '\n', ' ');
  fmt::print(stderr, "tandem: {}\n", message);
  return exit_code;
}

}  // namespace
}  // namespace tandem

int main(int argc, char** argv) {
  using tandem::report;
  tandem::handle_interrupts();
  try {
    return tandem::run_command_line(argc, argv);
  } catch (const tandem::Error& error) {
    return report(error.what(), tandem::kBadInput);
  } catch (const CLI::ParseError& error) {
    return report(error.what(), tandem::kBadInput);
  } catch (const std::bad_alloc&) {
    return report("there is not enough memory for this", tandem::kBadInput);
  } catch (const std::system_error& error) {  // of files and threads
    return report(error.what(), tandem::kBadInput);
  } catch (const std::exception& error) {
    return report(std::string("internal error: ") + error.what(), tandem::kInternalError);
  }
}
