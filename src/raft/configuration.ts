// Configurations: who votes and who only receives. A config entry takes effect as soon as it is in the log, committed
// or not, and is undone when it is truncated (Raft thesis 4.1).

import type { PeerId } from '#model/ids.ts'
import type { Change, Configuration, RefusalReason } from './types.ts'

/**
 * Text: voters, a line break, learners, each separated by spaces. A peer whose disk is not its founding one is followed
 * by a slash and the incarnation. Peer ids hold none of the three.
 */
export function encodeConfiguration(configuration: Configuration): Uint8Array {
  const tokens = (peers: readonly PeerId[]): string =>
    peers
      .map(peer => (incarnationOf(configuration, peer) === 0 ? peer : `${peer}/${incarnationOf(configuration, peer)}`))
      .join(' ')
  return toBytes(`${tokens(configuration.voters)}\n${tokens(configuration.learners)}`)
}

/** @throws Error on anything that encodeConfiguration did not write: a broken invariant, for the log is checksummed */
export function decodeConfiguration(data: Uint8Array): Configuration {
  const incarnations: Record<string, number> = {}
  const lines = String.fromCharCode(...data).split('\n')
  const [voters, learners] = lines.map(line =>
    line
      .split(' ')
      .filter(token => token !== '')
      .map(token => {
        const [peer, incarnation = '0'] = token.split('/')
        if (peer === undefined || !/^[0-9]+$/.test(incarnation)) throw new Error('a config entry that cannot be read')
        if (incarnation !== '0') incarnations[peer] = Number(incarnation)
        return peer as PeerId
      })
  )
  if (lines.length !== 2 || voters === undefined || learners === undefined || voters.length === 0) {
    throw new Error('a config entry that cannot be read')
  }
  return Object.keys(incarnations).length === 0 ? { voters, learners } : { voters, learners, incarnations }
}

/** The number of voters that is a majority. */
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

/** All who receive the log, voters first. */
export function members(configuration: Configuration): readonly PeerId[] {
  return [...configuration.voters, ...configuration.learners]
}

/** The configuration after a change, or why there is none. */
export function changed(configuration: Configuration, change: Change): Configuration | RefusalReason {
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
      const left = voters.filter(voter => voter !== peer)
      if (left.length === 0) return 'last-voter'
      const kept = Object.entries(incarnations).filter(([other]) => other !== peer)
      const incarnationsLeft = Object.fromEntries(kept)
      return { voters: left, learners: learners.filter(other => other !== peer), incarnations: incarnationsLeft }
    }
  }
}

function toBytes(text: string): Uint8Array {
  return Uint8Array.from(text, char => char.charCodeAt(0))
}
