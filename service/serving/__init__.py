"""Composition roots: the processes of API and worker, made of engine, server and console."""
