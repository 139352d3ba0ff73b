import { fastify } from 'fastify'
import t, { type Test } from 'tap'
import { answerList, type Listed } from '#api/list-route.ts'
import { VxmeshError } from '#model/errors.ts'
import type { PageView } from '#model/views.ts'

/** A list of whole numbers, whose token is the next one. */
async function get(
  t: Test,
  query: string,
  p: {
    readonly rows: number
    readonly failAt?: number
    readonly emptyAtEnd?: boolean
    /** Only these rows are in the list. */
    readonly chosen?: (row: number) => boolean
  }
): Promise<{ readonly status: number; readonly body: string; readonly reads: readonly number[] }> {
  const reads: number[] = []
  const server = fastify()
  t.teardown(() => server.close())
  server.get<Listed>('/list', (request, reply) =>
    answerList(request, reply, (range): Promise<PageView<{ row: number }>> => {
      const from = Number(range.continue ?? 0)
      reads.push(range.limit)
      if (p.failAt !== undefined && from >= p.failAt) return Promise.reject(new VxmeshError('ERR_KERNEL', 'ENOBUFS'))
      const end = Math.min(p.rows, from + range.limit)
      const rows = Array.from({ length: end - from }, (_, i) => ({ row: from + i }))
      const items = rows.filter(({ row }) => p.chosen?.(row) ?? true)
      const isLast = end === p.rows && (p.emptyAtEnd !== true || items.length === 0)
      return Promise.resolve({ items, continue: isLast ? null : String(end) })
    })
  )
  const response = await server.inject({ url: `/list${query}` })
  return { status: response.statusCode, body: response.body, reads }
}

const numbers = (body: string): readonly number[] => (JSON.parse(body) as { row: number }[]).map(({ row }) => row)
const upTo = (count: number): readonly number[] => Array.from({ length: count }, (_, i) => i)

t.test('the whole list is one array, read in pages', async t => {
  for (const [rows, pages] of [
    [0, 1],
    [1, 1],
    [500, 1],
    [501, 2],
    [1_000, 2],
    [12_345, 25]
  ] as const) {
    const { body, reads } = await get(t, '', { rows })
    t.same(numbers(body), upTo(rows))
    t.same(
      reads,
      Array.from({ length: pages }, () => 500)
    )
  }
})

t.test('rows that go away while the list is read leave it well-formed', async t => {
  t.same(numbers((await get(t, '', { rows: 1_000, emptyAtEnd: true })).body), upTo(1_000))
})

t.test('a filter may leave any page empty', async t => {
  for (const [what, chosen] of Object.entries({
    none: (): boolean => false,
    'the first': (row: number): boolean => row < 10,
    'the last': (row: number): boolean => row >= 1_990,
    'those of some pages': (row: number): boolean => Math.floor(row / 500) % 2 === 1
  })) {
    const { body, reads } = await get(t, '', { rows: 2_000, chosen })
    t.same(numbers(body), upTo(2_000).filter(chosen), what)
    t.equal(reads.length, 4)
  }
})

t.test('with a limit or a token the answer is one page', async t => {
  t.same(JSON.parse((await get(t, '?limit=2', { rows: 5 })).body), { items: [{ row: 0 }, { row: 1 }], continue: '2' })
  t.match(JSON.parse((await get(t, '?continue=3', { rows: 5 })).body), {
    continue: null,
    items: [{ row: 3 }, { row: 4 }]
  })
})

t.test('a failure of the first page is the answer, a later one cuts the array short', async t => {
  t.equal((await get(t, '', { rows: 2_000, failAt: 0 })).status, 500)
  await t.rejects(get(t, '', { rows: 2_000, failAt: 500 }))
})
