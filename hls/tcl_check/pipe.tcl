# SPDX-License-Identifier: Apache-2.0
# Talks to the model over standard input and output: each message is the length of a Tcl list's items and the items.
fconfigure stdin -encoding utf-8 -translation lf
fconfigure stdout -encoding utf-8 -translation lf -buffering full

proc send {items} {
    puts [llength $items]
    foreach item $items {
        puts [string length $item]
        puts -nonewline $item
    }
    flush stdout
}

proc receive {} {
    set items {}
    for {set left [gets stdin]} {$left > 0} {incr left -1} {
        lappend items [read stdin [gets stdin]]
    }
    return $items
}

proc ask {items} {
    send $items
    receive
}

source [lindex $argv 0]
send [list {} {*}[run {*}[receive]]]
