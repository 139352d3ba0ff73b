import t from 'tap'
import { PeerDirectory } from '#agent/observe/peer-directory.ts'
import type { MemberStatus } from '#model/member.ts'
import { vacated } from '#allocator/vacate.ts'
import { attach, Caller, makeHost } from '#test/allocator/fixtures.ts'
import { makeMember } from '../memory-host.ts'

const [H1, H2, H9] = [makeHost(1).peerId, makeHost(2).peerId, makeHost(9).peerId]

function directory(
  members: readonly ReturnType<typeof makeMember>[] | null,
  state = Caller.ready(1).state
): PeerDirectory {
  return new PeerDirectory({ state, view: () => (members === null ? null : { revision: 1, members, foreign: [] }) })
}

t.test('a peer has the name of its record, or of its member, or none but its id', t => {
  const known = directory([makeMember(2)])
  t.same(
    [H1, H2, H9].map(peer => known.nameOf(peer)),
    ['h1', 'h2', H9]
  )
  t.end()
})

t.test('registered hosts may connect, and members that have not left', t => {
  for (const [status, expected] of [
    ['alive', true],
    ['leaving', true],
    ['failed', true],
    ['left', false]
  ] as const satisfies readonly (readonly [MemberStatus, boolean])[]) {
    const known = directory([makeMember(2, status)])
    t.same(
      [H1, H2, H9].map(peer => known.isKnown(peer)),
      [true, expected, false],
      status
    )
  }
  t.end()
})

t.test('before Serf has answered there are no members, and registered hosts may connect', t => {
  const known = directory(null)
  t.same([known.members, known.member(H2), known.isKnown(H1), known.isKnown(H2)], [[], undefined, true, false])
  t.end()
})

t.test('the vacant record of a restored host does not let it connect', t => {
  const caller = Caller.ready(1)
  caller.do(attach('red', 'web'))
  const known = directory([], vacated(caller.state))
  t.same([known.nameOf(H1), known.isKnown(H1)], ['h1', false])
  t.end()
})
