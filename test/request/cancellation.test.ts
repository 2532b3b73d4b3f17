import { describe, expect, test } from 'vitest'
import { CANCEL_MARK } from '../../src/shared/protocol.js'
import { createCancellation } from '../../sw/request/cancellation.js'

const id = '36b8f84d-df4e-4d49-b662-bcde71a8764f'
const named = (id: string) => new Request(`https://api.example/orders${CANCEL_MARK}${id}`)
const answer = new Response('ok')

/** Work that ends when it is told to. */
const openWork = () => {
  let end = (_: Response) => {}
  const work = new Promise<Response>((resolve) => {
    end = resolve
  })
  return { work: () => work, end: () => end(answer) }
}

describe('a request with a name', () => {
  test('is cancelled by that name while it is under way, and forgotten after it', async () => {
    const cancellation = createCancellation()
    const { work, end } = openWork()
    const request = named(id)
    const done = cancellation.during(request, work)
    const signal = cancellation.signalOf(request)
    cancellation.cancel(crypto.randomUUID())
    expect(signal?.aborted).toBe(false)
    cancellation.cancel(id)
    expect(signal?.aborted).toBe(true)
    // A strategy may hand on a copy.
    expect(cancellation.signalOf(request.clone())).toBe(signal)
    end()
    expect(await done).toBe(answer)
    expect(cancellation.signalOf(request)).toBeUndefined()
  })

  test('is forgotten where its work fails, too', async () => {
    const cancellation = createCancellation()
    const work = () => Promise.reject(new TypeError('Failed to fetch'))
    await expect(cancellation.during(named(id), work)).rejects.toThrow('Failed to fetch')
    expect(cancellation.signalOf(named(id))).toBeUndefined()
  })

  test('may come after the message that cancels it', async () => {
    const cancellation = createCancellation()
    cancellation.cancel(id)
    const aborted = async () => cancellation.signalOf(named(id))?.aborted
    let seen: boolean | undefined
    const work = async () => {
      seen = await aborted()
      return answer
    }
    await cancellation.during(named(id), work)
    expect(seen).toBe(true)
    // Once: the name is not used twice.
    await cancellation.during(named(id), work)
    expect(seen).toBe(false)
  })

  test('that never comes is not remembered for ever', async () => {
    const cancellation = createCancellation()
    cancellation.cancel(id)
    for (let n = 0; n < 100; n++) cancellation.cancel(`${n}`)
    await cancellation.during(named(id), async () => {
      expect(cancellation.signalOf(named(id))?.aborted).toBe(false)
      return answer
    })
  })
})

test('a request without a name, with an empty one or another fragment has no signal', async () => {
  const cancellation = createCancellation()
  cancellation.cancel('')
  for (const end of ['', '#', '#top', CANCEL_MARK]) {
    const request = new Request(`https://api.example/orders${end}`)
    const work = async () => {
      expect(cancellation.signalOf(request)).toBeUndefined()
      return answer
    }
    expect(await cancellation.during(request, work)).toBe(answer)
  }
})
