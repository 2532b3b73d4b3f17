import { createHash } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { limit } from '../support/machine.mjs'
import { fetchIn, openSignedIn, refreshesAt, requestsTo, useWorld } from '../support/world.js'

const world = useWorld()

const megabyte = 1024 * 1024
const sha256 = (text: string) => createHash('sha256').update(text).digest('hex')

describe('50 MB', () => {
  test('go up, and once more after a 401 (IN-14)', { timeout: limit(120_000) }, async () => {
    const page = await openSignedIn(world)
    await fetchIn(page, `${world.api.url}/me`)
    world.api.rejectCurrentTokens()
    const size = 50 * megabyte
    const answer = await page.evaluate(
      async ([url, size]) => {
        const body = new Blob(['x'.repeat(size)])
        return (await fetch(url, { method: 'POST', body })).json()
      },
      [`${world.api.url}/upload`, size] as const,
    )
    expect(answer).toEqual({ size, sha256: sha256('x'.repeat(size)) })
    expect(requestsTo(world.api, '/upload').map(({ status }) => status)).toEqual([401, 200])
  })

  test('come down whole (IN-15)', { timeout: limit(120_000) }, async () => {
    const page = await openSignedIn(world)
    const seen = await page.evaluate(async (url) => {
      const bytes = await (await fetch(url)).arrayBuffer()
      const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes))
      return {
        size: bytes.byteLength,
        sha256: [...hash].map((byte) => byte.toString(16).padStart(2, '0')).join(''),
      }
    }, `${world.api.url}/download?count=50`)
    const text = '0123456789abcdef'.repeat((50 * megabyte) / 16)
    expect(seen).toEqual({ size: 50 * megabyte, sha256: sha256(text) })
  })
})

describe('an API that says by a 200 that the token has expired', () => {
  const source = `async (response) => {
    if (response.headers.get('content-type') !== 'application/json') return false
    const { errors } = await response.json()
    return errors?.[0]?.extensions?.code === 'UNAUTHENTICATED'
  }`
  const init = {
    method: 'POST',
    body: JSON.stringify({ query: '{ me { sub } }' }),
    headers: { 'content-type': 'application/json' },
  }

  test('is called once more with a new token, where `expired` says so (RF-15)', async () => {
    world.useWorker(`apis: [{ url: '${world.api.url}', expired: ${source} }, '/api/']`)
    const page = await openSignedIn(world)
    world.as.expireAccessTokens()
    // Where nobody says so, it is an answer like any other.
    const other = await fetchIn(page, '/api/graphql', init)
    expect(other).toMatchObject({ status: 200, body: { errors: [{}] } })
    expect(requestsTo(world.sameOriginApi, '/graphql')).toHaveLength(1)
    expect(refreshesAt(world.as)).toEqual([])

    const url = `${world.api.url}/graphql`
    const answers = await Promise.all([1, 2, 3].map(() => fetchIn(page, url, init)))
    const me = expect.objectContaining({ sub: 'alice' })
    expect(answers).toEqual(Array(3).fill({ status: 200, body: { data: { me } } }))
    expect(requestsTo(world.api, '/graphql')).toHaveLength(6)
    expect(refreshesAt(world.as)).toHaveLength(1)
  })
})
