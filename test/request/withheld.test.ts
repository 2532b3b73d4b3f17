import { describe, expect, onTestFinished, test, vi } from 'vitest'
import type { ApiRule } from '../../sw/request/intercept.js'
import { createWithheld, hintFailure } from '../../sw/request/withheld.js'
import type { SessionRecord } from '../../sw/session/records.js'
import type { TraceStep } from '../../sw/trace.js'
import { activeRecord } from '../support/worker-parts.js'

const newRule = (): ApiRule => ({
  origin: 'https://api.example',
  segments: [],
  unauthenticated: 'pass',
})
const request = new Request('https://api.example/orders?code=secret')

const createWorld = (record: SessionRecord | undefined = activeRecord(0)) => {
  const warn = vi.spyOn(console, 'warn').mockImplementation(() => {})
  onTestFinished(() => warn.mockRestore())
  const steps: Omit<TraceStep, 'at'>[] = []
  const withheld = createWithheld({
    session: { read: async () => record },
    note: (step, more) => steps.push({ step, ...more }),
  })
  return { withheld, steps, warn }
}

describe('a request that gets no token although somebody is signed in', () => {
  test('shows in the trace with the reason, without query', async () => {
    const { withheld, steps } = createWorld()
    withheld?.(request, 'unlisted')
    withheld?.(request, 'method', newRule())
    const url = 'https://api.example/orders'
    await vi.waitFor(() =>
      expect(steps).toEqual([
        { step: 'withheld', method: 'GET', url, code: 'unlisted' },
        { step: 'withheld', method: 'GET', url, code: 'method' },
      ]),
    )
  })

  test('shows in the console of the development build, once for each API and reason', async () => {
    const { withheld, steps, warn } = createWorld()
    const rule = newRule()
    for (const reason of ['path', 'path', 'authorization'] as const) {
      withheld?.(request, reason, rule)
    }
    withheld?.(request, 'path', newRule())
    // No API of the app: perhaps nobody's business.
    withheld?.(request, 'unlisted')
    await vi.waitFor(() => expect(steps).toHaveLength(5))
    const said = warn.mock.calls.map(([words]) => String(words))
    expect(said).toHaveLength(3)
    expect(said[0]).toMatch(/GET https:\/\/api\.example\/orders goes without a token: a server/)
    expect(said[1]).toContain('a header Authorization')
  })

  test('of an element that can have none is not for the console', async () => {
    const { withheld, steps, warn } = createWorld()
    const script = { ...request, url: request.url, destination: 'script' } as Request
    withheld?.(script, 'mode', newRule())
    await vi.waitFor(() => expect(steps).toHaveLength(1))
    expect(warn).not.toHaveBeenCalled()
  })

  test('fails with a word in the console about why', () => {
    const { warn } = createWorld()
    const rule = newRule()
    for (let times = 0; times < 2; times++) hintFailure(request, rule, 'offline')
    expect(warn).toHaveBeenCalledTimes(1)
    expect(warn.mock.calls[0]?.[0]).toContain('no token now (offline)')
  })
})

test('a request without a token is nothing to mention while nobody is signed in', async () => {
  const read = vi.fn(async () => ({ status: 'ended', generation: 1, reason: 'logout' }) as const)
  const steps: unknown[] = []
  createWithheld({ session: { read }, note: (step) => steps.push(step) })?.(request, 'unlisted')
  await vi.waitFor(() => expect(read).toHaveBeenCalled())
  await Promise.resolve()
  expect(steps).toEqual([])
})

test('a disk that fails is not the business of a request without a token', async () => {
  const read = vi.fn(() => Promise.reject(new Error('no disk')))
  createWithheld({ session: { read } })?.(request, 'unlisted')
  await vi.waitFor(() => expect(read).toHaveBeenCalled())
})
