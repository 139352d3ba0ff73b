// The processes of the machine.

import { readdirSync } from 'node:fs'

/** The pids of all visible processes. */
export function listPids(): readonly number[] {
  return readdirSync('/proc')
    .filter(name => /^[0-9]+$/.test(name))
    .map(Number)
}
