# SPDX-License-Identifier: Apache-2.0
# Runs a script in a safe interpreter whose commands of the tool, and all that reach beyond it, ask the model.
# `ask` sends a command to the model and returns {status value}; whoever loads this file defines it.

proc answer {args} {
    lassign [ask $args] status value
    if {$status eq "ok"} {
        return $value
    }
    return -code error -errorcode [list HETFAB $status] $value
}

# What a safe interpreter lacks. Paths alone are computed here; whether a file exists is for the model to say.
proc file_command {subcommand args} {
    set pure {dirname extension join nativename pathtype rootname split tail}
    if {$subcommand in $pure} {
        return [file $subcommand {*}$args]
    }
    answer file 0 $subcommand {*}$args
}

# The file is evaluated where the script calls it, so `source` may not go through a procedure of the script's own.
proc source_command {args} {
    interp invokehidden script source [answer source 0 {*}$args]
}

proc run {path names variables arguments seconds} {
    interp create -safe script
    script alias ::hetfab_answer answer
    foreach name $names {
        if {[string match *::* $name]} {
            script eval [list namespace eval [namespace qualifiers $name] {}]
        }
        script eval [list proc ::$name args "::hetfab_answer $name \[::hetfab_line\] {*}\$args"]
    }
    script eval {
        # Line of the script from which the tool's command was called, through procedures of the script.
        proc ::hetfab_line {} {
            for {set level -2} {![catch {info frame $level} frame]} {incr level -1} {
                if {[dict get $frame type] eq "source"} {
                    return [dict get $frame line]
                }
            }
            return 0
        }
        proc ::unknown args {
            ::hetfab_answer unknown [::hetfab_line] {*}$args
        }
    }
    script alias file file_command
    script alias source source_command
    script eval [list array set ::env $variables]
    script eval [list set ::argv $arguments]
    script eval [list set ::argc [llength $arguments]]
    script limit time -seconds [expr {[clock seconds] + $seconds}]
    set status [catch {interp invokehidden script source $path} message options]
    set line 0
    if {$status == 1} {
        regexp {\(file "[^"]*" line (\d+)\)} [dict get $options -errorinfo] -> line
        return [list failed $line [dict get $options -errorcode] $message]
    }
    return [list ended 0 {} {}]
}
