import { describe, expect, test } from 'vitest'
import { arrivalOf } from '../../sw/http/arrival.js'
import { endpointOf } from '../../sw/http/server-path.js'
import { createProtocolEndpoints } from '../../sw/request/protocol-endpoints.js'

const token = 'https://app.example/auth/token'
const form = 'application/x-www-form-urlencoded'

const createWorld = (known = [token]) => {
  const sent: Request[] = []
  const endpoints = createProtocolEndpoints({
    config: { clientId: 'My-App' },
    server: { protocolEndpoints: () => known, recallEndpoints: async () => {} },
    session: { peek: () => undefined, read: async () => undefined },
    platform: {
      fetch: async (request) => {
        sent.push(request as Request)
        return new Response('ok')
      },
    },
  })
  const post = async (body: string, headers: Record<string, string> = {}, url = token) => {
    const request = new Request(url, {
      method: 'POST',
      body,
      headers: { 'content-type': form, ...headers },
    })
    const { status } = await endpoints.answer(arrivalOf(request, { waitUntil: () => {} }))
    return status
  }
  return { endpoints, sent, post }
}

describe("a page's POST to an endpoint of the authorization server", () => {
  test('is sent for another client, as the page has made it', async () => {
    const { post, sent } = createWorld()
    const body = 'grant_type=refresh_token&client_id=account-console&refresh_token=x'
    for (const type of [form, `${form};charset=UTF-8`, `${form}; charset=utf-8`]) {
      expect(await post(body, { 'content-type': type })).toBe(200)
    }
    expect(await post('client_id=my-app-admin&scope=my-app2&redirect_uri=https://my-app/')).toBe(
      200,
    )
    expect(await sent[0]?.text()).toBe(body)
  })

  test.each<[string, string, Record<string, string>?, string?]>([
    ['this client', 'client_id=My-App&refresh_token=x'],
    ['this client, encoded', 'client%5Fid=My%2DApp'],
    ['this client, in other letters', 'client_id=my-app'],
    ['this client, with white space', 'client_id=+My-App%09%00'],
    ['no client: a token may be enough', 'grant_type=refresh_token&refresh_token=x'],
    ['no client', ''],
    ['two clients', 'client_id=other&client_id=My-App'],
    ['two clients', 'client_id=other&client_id=another'],
    ['two clients, for a server that ignores case', 'client_id=other&Client_Id=My-App'],
    ['two clients, for PHP', 'client_id=other&client.id=My-App'],
    ['two clients, for a server that splits at ;', 'client_id=other&x=1;client_id=My-App'],
    ['another client in the query', 'client_id=other', {}, `${token}?client_id=My-App`],
    ['a client in a header', 'client_id=other', { authorization: 'Basic TXktQXBwOg==' }],
    ['a form in another encoding', 'client_id=other', { 'content-type': `${form};charset=IBM037` }],
    ['no form', 'client_id=other', { 'content-type': 'text/plain' }],
    ['JSON', '{"client_id":"other"}', { 'content-type': 'application/json' }],
  ])('is refused if it names %s: %s (IN-07)', async (_title, body, headers, url) => {
    const { post, sent } = createWorld()
    expect(await post(body, headers, url)).toBe(403)
    expect(sent).toEqual([])
  })

  test('is sent where there is no such endpoint', async () => {
    const { post } = createWorld()
    expect(endpointOf(new URL(token))).toBe(token)
    expect(await post('client_id=My-App', {}, 'https://app.example/auth/admin/token')).toBe(200)
  })
})
