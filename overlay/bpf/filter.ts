// The filter by which a device runs a program of ours.

import { errnoOf, refusalError } from '#platform/netlink-error.ts'
import type { NetlinkSocket } from '#platform/netlink-socket.ts'
import { decodeFilter, type FilterInfo } from '../netlink/tc-info.ts'
import type { LinkInfo } from '../netlink/link-info.ts'
import { deleteProgramFilter, getProgramFilter } from '../netlink/tc.ts'
import { sendsBy } from '../plan/programs/desired-programs.ts'
import { PROGRAMS } from './datapath.ts'

/** Before every filter to which the kernel gave a priority itself, and before our own redirect to a queue. */
export const PROGRAM_PRIORITY = 118

/** No filter, no clsact, or no device. */
const ABSENT: readonly string[] = ['ENOENT', 'EINVAL', 'ENODEV']

/** The program that a device runs in our place on what it receives, or sends, whoever attached it; null for none. @throws ERR_KERNEL */
export function readProgram(socket: NetlinkSocket, ifindex: number, sends = false): FilterInfo['program'] {
  try {
    const [answer] = socket.request(getProgramFilter({ ifindex, sends, priority: PROGRAM_PRIORITY }), 'read a filter')
    return answer === undefined ? null : (decodeFilter(answer)?.program ?? null)
  } catch (err) {
    if (ABSENT.includes(errnoOf(err) ?? '')) return null
    throw err
  }
}

/** Stops programs. Absent is success. @throws ERR_KERNEL for the first that is refused; all are tried */
export function stopPrograms(
  socket: NetlinkSocket,
  devices: readonly { readonly device: string; readonly ifindex: number; readonly program: string }[]
): void {
  const messages = devices.map(({ ifindex, program }) =>
    deleteProgramFilter({ ifindex, sends: sendsBy(program), priority: PROGRAM_PRIORITY })
  )
  const refusals = socket.batch(messages, 'stop programs')
  for (const [i, refusal] of refusals.entries()) {
    if (refusal !== null && !ABSENT.includes(refusal.errno))
      throw refusalError(`stop the program on ${devices[i]?.device ?? ''}`, refusal)
  }
}

/** A program of ours on a device. */
export type Running = {
  readonly device: string
  readonly ifindex: number
  readonly program: string
  readonly id: number
}

/** Those of these devices that run a program of ours. @throws ERR_KERNEL */
export function findPrograms(socket: NetlinkSocket, links: readonly LinkInfo[]): readonly Running[] {
  return links.flatMap(({ name: device, ifindex }) =>
    [false, true].flatMap(sends => {
      const program = readProgram(socket, ifindex, sends)
      if (program === null || !(PROGRAMS as readonly string[]).includes(program.name)) return []
      return [{ device, ifindex, program: program.name, id: program.id }]
    })
  )
}
