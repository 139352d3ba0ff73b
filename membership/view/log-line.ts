// Serf's log lines, used only as a trigger for a member query; their content is not trusted.

type SerfEvent = 'join' | 'leave' | 'failed' | 'update' | 'reap' | 'conflict'

const EVENTS: readonly (readonly [RegExp, SerfEvent])[] = [
  [/serf: EventMemberJoin: /, 'join'],
  [/serf: EventMemberLeave(?: \(forced\))?: /, 'leave'],
  [/serf: EventMemberFailed: /, 'failed'],
  [/serf: EventMemberUpdate: /, 'update'],
  [/serf: EventMemberReap: /, 'reap'],
  [/[Nn]ame conflict|[Cc]onflicting address/, 'conflict']
]

/** The member that a line is about, if its name is one that a host may have; else all members must be queried. */
export function memberInLine(line: string): string | null {
  return /serf: EventMember[A-Z][a-z]+(?: \(forced\))?: ([a-z0-9.-]{1,63})(?: |$)/.exec(line.slice(0, 400))?.[1] ?? null
}

/** The member event that a line reports, or null. */
export function readLogLine(line: string): SerfEvent | null {
  const head = line.slice(0, 400)
  return EVENTS.find(([pattern]) => pattern.test(head))?.[1] ?? null
}
