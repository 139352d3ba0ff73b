import t from 'tap'
import { idNameOf, ownNameOf, parseDomain } from '#model/dns-name.ts'
import type { ContainerId } from '#model/ids.ts'

t.test('an endpoint’s name is a DNS name, a pod’s is turned round', t => {
  for (const [name, expected] of [
    ['web', 'web'],
    ['Web', 'web'],
    ['my_web-1', 'my_web-1'],
    ['_http', '_http'],
    ['web.shop', 'web.shop'],
    ['prod/api-0', 'api-0.prod'],
    ['prod/a.b', 'a.b.prod'],
    ['', null],
    ['a b', null],
    ['-web', null],
    ['web-', null],
    ['web.', null],
    ['a..b', null],
    ['ä', null],
    ['a/b/c', null],
    ['a.b/c', null],
    ['prod/', null],
    ['x'.repeat(64), null],
    [Array.from({ length: 5 }, () => 'x'.repeat(60)).join('.'), null]
  ] as const)
    t.equal(ownNameOf({ name }), expected, name)
  t.end()
})

t.test('a container id is a name, a random one by its first digits', t => {
  for (const [id, expected] of [
    ['web', 'web'],
    ['0123456789abcdef'.repeat(4), '0123456789ab'],
    ['0123456789abcdef'.repeat(2), '0123456789abcdef'.repeat(2)],
    ['x'.repeat(64), null]
  ] as const)
    t.equal(idNameOf({ containerId: id as ContainerId }), expected, id)
  t.end()
})

t.test('a domain is in lower case, without the last dot', t => {
  t.equal(parseDomain('Corp.Example.'), 'corp.example')
  for (const text of [
    '',
    '.',
    'a..b',
    'a b',
    '-a',
    'x'.repeat(64),
    Array.from({ length: 3 }, () => 'x'.repeat(60)).join('.')
  ])
    t.throws(() => parseDomain(text, 'zone'), { code: 'ERR_INVALID', message: /^zone: / }, text)
  t.end()
})
