@echo off
dir
