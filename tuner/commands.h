// The subcommands of `tandem`, one file each (command_<name>.cpp), and what they share.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace tandem {

/// Each adds its subcommand; its callback does the work, sets exit_code and throws Error for bad
/// input (exit code 2).
void add_info_command(CLI::App& app, int& exit_code);
void add_profile_command(CLI::App& app, int& exit_code);
void add_plan_command(CLI::App& app, int& exit_code);
void add_explain_command(CLI::App& app, int& exit_code);
void add_simulate_command(CLI::App& app, int& exit_code);
void add_run_command(CLI::App& app, int& exit_code);
void add_validate_command(CLI::App& app, int& exit_code);
void add_compare_command(CLI::App& app, int& exit_code);
void add_synthesize_command(CLI::App& app, int& exit_code);

}  // namespace tandem
