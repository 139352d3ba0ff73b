// Configurations: who votes and who only receives. A config entry takes effect as soon as it is in the log, committed
// or not, and is undone when it is truncated (Raft thesis 4.1).

import type { PeerId } from '#model/ids.ts'
import type { RaftLog } from './log.ts'
import type { Configuration } from './types.ts'

/** Text: voters, a line break, learners, each separated by spaces. Peer ids hold neither. */
export function encodeConfiguration(configuration: Configuration): Uint8Array {
  return toBytes(`${configuration.voters.join(' ')}\n${configuration.learners.join(' ')}`)
}

/** @throws Error on anything that encodeConfiguration did not write: a broken invariant, for the log is checksummed */
export function decodeConfiguration(data: Uint8Array): Configuration {
  const lines = String.fromCharCode(...data).split('\n')
  const [voters, learners] = lines.map(line => line.split(' ').filter(id => id !== '') as PeerId[])
  if (lines.length !== 2 || voters === undefined || learners === undefined || voters.length === 0) {
    throw new Error('a config entry that cannot be read')
  }
  return { voters, learners }
}

/** The last configuration in the log, or the one that it began with. O(config entries). */
export function effectiveConfiguration(log: RaftLog, initial: Configuration): Configuration {
  const entry = log.lastConfigEntry()
  return entry === undefined ? initial : decodeConfiguration(entry.data)
}

/** The number of voters that is a majority. */
export function quorumSize(configuration: Configuration): number {
  return Math.floor(configuration.voters.length / 2) + 1
}

export function isVoter(configuration: Configuration, peer: PeerId): boolean {
  return configuration.voters.includes(peer)
}

/** All who receive the log, voters first. */
export function members(configuration: Configuration): readonly PeerId[] {
  return [...configuration.voters, ...configuration.learners]
}

function toBytes(text: string): Uint8Array {
  return Uint8Array.from(text, char => char.charCodeAt(0))
}
