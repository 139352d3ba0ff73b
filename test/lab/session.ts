// Sessions of processes (setsid(2)): every process of a program that was started as the leader of one.

import { readFileSync } from 'node:fs'
import { listPids } from '#platform/pids.ts'

/** The living processes of a session. */
export function sessionOf(leader: number): number[] {
  return listPids().filter(pid => {
    try {
      // The fields after the name in brackets: state, parent, group, session (proc(5)).
      const [state, , , session] = readFileSync(`/proc/${pid}/stat`, 'utf8')
        .replace(/^.*\) /s, '')
        .split(' ')
      return Number(session) === leader && state !== 'Z'
    } catch {
      return false
    }
  })
}
