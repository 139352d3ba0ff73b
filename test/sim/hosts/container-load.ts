// Runtimes that attach and detach containers on their own hosts, and give up at the first failure.

import { parseContainerId } from '#model/ids.ts'
import type { Random } from '../random.ts'
import type { Schedule } from '../schedule.ts'
import type { SimHost } from './host.ts'

const THINK_MS = 300
const ATTACHED_MAX = 4

export function runContainers(p: {
  readonly hosts: readonly SimHost[]
  readonly random: Random
  readonly schedule: Schedule
  readonly untilMs: number
}): void {
  const { hosts, random, schedule, untilMs } = p
  let made = 0
  const next = (): void => {
    schedule.after(random.between(0, 2 * THINK_MS), () => {
      if (schedule.nowMs >= untilMs) return
      const { containers } = random.pick(hosts)
      const { attached } = containers
      if (attached.length >= ATTACHED_MAX || (attached.length > 0 && random.chance(0.3))) {
        containers.detach(random.pick(attached))
      } else {
        made += 1
        containers.attach(parseContainerId(`k${made}`))
      }
      next()
    })
  }
  next()
}
