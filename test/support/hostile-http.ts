// The hostile authorization server on a port of localhost, for a real browser.
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { createFakeAuthorizationServer } from './fake-authorization-server.js'

export const startHostileServer = async () => {
  const http = createServer(async (request, response) => {
    const url = issuer + request.url
    seen.push(request.url ?? '')
    if (url.startsWith(`${issuer}/authorize?`)) {
      const location = hostile.change(server.authorize(url)).href
      response.writeHead(302, { location }).end()
      return
    }
    const body = await text(request)
    const right = await server.fetch(url, { method: request.method, body })
    const answer = url.includes('/.well-known/') ? await hostile.metadata(right) : right
    const headers = Object.fromEntries(answer.headers)
    // A redirect that is followed is seen here.
    if (headers['location']) headers['location'] = `${issuer}/elsewhere`
    response.writeHead(answer.status, { ...headers, 'access-control-allow-origin': '*' })
    const stream = Readable.fromWeb((answer.body ?? new Blob().stream()) as never)
    response.on('close', () => stream.destroy())
    stream.on('error', () => response.destroy()).pipe(response)
  })
  await new Promise<void>((resolve) => {
    http.listen(0, 'localhost', resolve)
  })
  const issuer = `http://localhost:${(http.address() as AddressInfo).port}`
  const server = createFakeAuthorizationServer({ issuer })
  /** Paths and queries that were asked for. */
  const seen: string[] = []
  /** What it does to its metadata, and to the answers at the callback. */
  const honest = {
    metadata: (right: Response): Response | Promise<Response> => right,
    change: (back: URL): URL => back,
  }
  const hostile = { ...honest }

  return {
    server,
    issuer,
    seen,
    hostile,
    /** Back to honesty, with no session. */
    reset: () => {
      Object.assign(hostile, honest)
      server.answers.length = 0
      server.requests.length = 0
      server.options.claims = undefined
      seen.length = 0
    },
    close: () =>
      new Promise<void>((resolve) => {
        http.closeAllConnections()
        http.close(() => resolve())
      }),
  }
}

export type HostileServer = Awaited<ReturnType<typeof startHostileServer>>
