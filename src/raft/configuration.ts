// Configurations: voters and learners. A config entry takes effect as soon as it is appended, committed or not, and is
// rolled back when it is truncated (Raft thesis 4.1).

import type { PeerId } from '#model/ids.ts'
import type { Change, Configuration, RefusalReason } from './types.ts'

/**
 * Text: voters, a line break, learners, each list separated by spaces. A peer whose incarnation is not 0 is written as
 * `peer/incarnation`. Peer ids contain neither space, line break nor slash.
 */
export function encodeConfiguration(configuration: Configuration): Uint8Array {
  const tokens = (peers: readonly PeerId[]): string =>
    peers
      .map(peer => (incarnationOf(configuration, peer) === 0 ? peer : `${peer}/${incarnationOf(configuration, peer)}`))
      .join(' ')
  return toBytes(`${tokens(configuration.voters)}\n${tokens(configuration.learners)}`)
}

/** @throws Error on anything that encodeConfiguration did not write: the log is checksummed, so an invariant is broken */
export function decodeConfiguration(data: Uint8Array): Configuration {
  const incarnations: Record<string, number> = {}
  const lines = String.fromCharCode(...data).split('\n')
  const [voters, learners] = lines.map(line =>
    line
      .split(' ')
      .filter(token => token !== '')
      .map(token => {
        const [peer, incarnation = '0'] = token.split('/')
        if (peer === undefined || !/^[0-9]+$/.test(incarnation)) throw new Error('malformed config entry')
        if (incarnation !== '0') incarnations[peer] = Number(incarnation)
        return peer as PeerId
      })
  )
  if (lines.length !== 2 || voters === undefined || learners === undefined || voters.length === 0) {
    throw new Error('malformed config entry')
  }
  return Object.keys(incarnations).length === 0 ? { voters, learners } : { voters, learners, incarnations }
}

/** The number of voters in a majority. */
export function quorumSize(configuration: Configuration): number {
  return Math.floor(configuration.voters.length / 2) + 1
}

export function isVoter(configuration: Configuration, peer: PeerId): boolean {
  return configuration.voters.includes(peer)
}

export function isMember(configuration: Configuration, peer: PeerId): boolean {
  return configuration.voters.includes(peer) || configuration.learners.includes(peer)
}

export function incarnationOf(configuration: Configuration, peer: PeerId): number {
  return configuration.incarnations?.[peer] ?? 0
}

/** All receivers of the log, voters first. */
export function members(configuration: Configuration): readonly PeerId[] {
  return [...configuration.voters, ...configuration.learners]
}

/** The configuration after a change, or why the change is invalid. */
export function applyChange(configuration: Configuration, change: Change): Configuration | RefusalReason {
  const { voters, learners, incarnations = {} } = configuration
  const { peer } = change
  switch (change.kind) {
    case 'add-learner':
      if (isMember(configuration, peer)) return 'already-there'
      return {
        voters,
        learners: [...learners, peer],
        incarnations: change.incarnation === 0 ? incarnations : { ...incarnations, [peer]: change.incarnation }
      }
    case 'promote':
      if (isVoter(configuration, peer)) return 'already-there'
      if (!learners.includes(peer)) return 'no-such-learner'
      return { voters: [...voters, peer], learners: learners.filter(other => other !== peer), incarnations }
    case 'remove': {
      if (!isMember(configuration, peer)) return 'no-such-peer'
      const remaining = voters.filter(voter => voter !== peer)
      if (remaining.length === 0) return 'last-voter'
      return {
        voters: remaining,
        learners: learners.filter(other => other !== peer),
        incarnations: Object.fromEntries(Object.entries(incarnations).filter(([other]) => other !== peer))
      }
    }
  }
}

function toBytes(text: string): Uint8Array {
  return Uint8Array.from(text, char => char.charCodeAt(0))
}
